/*
 * gdb_run.c: going and stopping (GDB manual, E.2 and E.3). All-stop: the first vCPU that has something to
 * say stops all of them, by vm_pause(); a step of one vCPU lets the others run unless the client holds
 * them.
 *
 * Two may have stopped by the time all of them stand. A breakpoint will be hit again, because its
 * instruction has not run; a watchpoint is past its access, so it is kept and reported when the client lets
 * that vCPU go again.
 */
#include "control/gdb_priv.h"

#include <string.h>

/* --- stopping --- */

void gdb_halt(struct gdb *g)
{
    vm_pause(g->vm);
    g->vm->held = true;
    g->running = false;
    g->state_valid = false;
    gdb_points_leave(g);
}

/* A client that finds no breakpoint at $pc, in a segment with a base, would take it for one that was removed. */
static bool gdb_break_is_known(struct gdb *g, const struct debug_stop *stop)
{
    const struct x86_state *s = gdb_state(g, g->stop_cpu);

    return stop->why == DEBUG_STOP_BREAK && s && s->rip == stop->lin;
}

static void gdb_stop_reason(struct gdb *g, const struct debug_stop *stop)
{
    static const char *const watch[] = {
        [DEBUG_WATCH_WRITE] = "watch",
        [DEBUG_WATCH_READ] = "rwatch",
        [DEBUG_WATCH_ACCESS] = "awatch",
    };

    if (stop->why == DEBUG_STOP_WATCH)
        gdb_putf(&g->reply, "%s:%llx;", watch[stop->kind], (unsigned long long)stop->lin);
    else if (!gdb_break_is_known(g, stop))
        return;
    else if (stop->kind == DEBUG_BREAK_SW && g->swbreak)
        gdb_put(&g->reply, "swbreak:;");
    else if (stop->kind == DEBUG_BREAK_HW && g->hwbreak)
        gdb_put(&g->reply, "hwbreak:;");
}

static void gdb_put_stop(struct gdb *g, unsigned signal, const struct debug_stop *stop)
{
    g->reply.len = 0;
    g->reply.overflow = false;
    gdb_putf(&g->reply, "T%02xthread:%x;", signal, g->stop_cpu + 1);
    gdb_stop_reason(g, stop);
}

/* A line on the client's terminal. */
static void gdb_say(struct gdb *g, const char *text)
{
    g->reply.len = 0;
    g->reply.overflow = false;
    gdb_put(&g->reply, "O");
    gdb_put_hex(&g->reply, text, strlen(text));
    gdb_send(g);
}

/* The vCPU to report: steps first, because breakpoints come again; -1: none. */
static int gdb_stop_choose(const struct gdb *g)
{
    static const enum debug_why order[] = { DEBUG_STOP_STEP, DEBUG_STOP_WATCH, DEBUG_STOP_BREAK,
                                            DEBUG_STOP_SHUTDOWN };

    for (size_t o = 0; o < ARRAY_SIZE(order); o++)
        for (unsigned i = 0; i < g->vm->nvcpus; i++)
            if (g->vm->vcpu[i]->debug.stop.why == order[o])
                return (int)i;
    return -1;
}

/* The guest stands: tells why, with signal if no vCPU had a reason of its own. */
static void gdb_report(struct gdb *g, unsigned signal)
{
    struct debug_stop stop = { .why = DEBUG_STOP_NONE };
    int cpu = gdb_stop_choose(g);

    if (cpu >= 0) {
        stop = g->vm->vcpu[cpu]->debug.stop;
        g->vm->vcpu[cpu]->debug.stop.why = DEBUG_STOP_NONE;
        g->stop_cpu = (unsigned)cpu;
        signal = stop.why == DEBUG_STOP_SHUTDOWN ? GDB_SIGSEGV : GDB_SIGTRAP;
    }
    for (unsigned i = 0; i < g->vm->nvcpus; i++)
        if (g->vm->vcpu[i]->debug.stop.why != DEBUG_STOP_WATCH)
            g->vm->vcpu[i]->debug.stop.why = DEBUG_STOP_NONE;
    g->cpu = g->stop_cpu;
    if (stop.why == DEBUG_STOP_SHUTDOWN)
        gdb_say(g, "Triple fault: the processor would reset now.\n");
    gdb_put_stop(g, signal, &stop);
    gdb_send(g);
}

static void gdb_on_stop(struct loop_work *w)
{
    struct gdb *g = container_of(w, struct gdb, stop_work);

    if (!g->running || !atomic_load(&g->connected))
        return;
    gdb_halt(g);
    gdb_report(g, GDB_SIGTRAP);
    gdb_turn(g);
}

void gdb_interrupt(struct gdb *g)
{
    if (!g->running)
        return;
    gdb_halt(g);
    gdb_report(g, GDB_SIGINT);
}

void gdb_run_init(struct gdb *g)
{
    g->stop_work.call = gdb_on_stop;
}

void gdb_run_why(struct gdb *g, const char *args)
{
    static const struct debug_stop none = { .why = DEBUG_STOP_NONE };

    (void)args;
    gdb_put_stop(g, GDB_SIGTRAP, &none);
}

/* --- going --- */

static void gdb_go(struct gdb *g)
{
    gdb_points_enter(g);
    g->state_valid = false;
    g->running = true;
    g->vm->held = false;
    loop_unpost(g->vm->loop, &g->stop_work);
    vm_resume(g->vm);
}

/* false: the accelerator cannot step; nothing runs. */
static bool gdb_prepare(struct gdb *g, const enum gdb_action *action)
{
    bool ok = true;

    for (unsigned i = 0; i < g->vm->nvcpus; i++) {
        struct vcpu *c = g->vm->vcpu[i];

        c->debug.held = action[i] == GDB_HOLD;
        c->debug.step = action[i] == GDB_STEP;
        c->debug.step_irqs = g->step_irqs;
        c->debug.points = &g->points;
        ok &= !g->vm->accel->set_debug(c);
    }
    return ok;
}

static void gdb_resume(struct gdb *g, const enum gdb_action *action)
{
    if (!gdb_prepare(g, action)) {
        gdb_error(g, GDB_EINVAL);
        return;
    }
    g->answered = true;
    for (unsigned i = 0; i < g->vm->nvcpus; i++) {
        if (action[i] != GDB_HOLD && g->vm->vcpu[i]->debug.stop.why == DEBUG_STOP_WATCH) {
            gdb_report(g, GDB_SIGTRAP);
            return;
        }
    }
    gdb_go(g);
}

void gdb_release(struct gdb *g)
{
    enum gdb_action action[CONFIG_MAX_CPUS];

    if (g->running)
        gdb_halt(g);
    gdb_points_clear(g);
    for (unsigned i = 0; i < g->vm->nvcpus; i++) {
        g->vm->vcpu[i]->debug.stop.why = DEBUG_STOP_NONE;
        action[i] = GDB_CONTINUE;
    }
    if (gdb_prepare(g, action))
        gdb_go(g);
}

/* c, s: all go; the chosen one may step. An address (cADDR) is not taken: clients set the PC. */
static void gdb_resume_all(struct gdb *g, enum gdb_action chosen)
{
    enum gdb_action action[CONFIG_MAX_CPUS];

    for (unsigned i = 0; i < CONFIG_MAX_CPUS; i++)
        action[i] = GDB_CONTINUE;
    action[g->cpu] = chosen;
    gdb_resume(g, action);
}

void gdb_run_continue(struct gdb *g, const char *args)
{
    (void)args;
    gdb_resume_all(g, GDB_CONTINUE);
}

void gdb_run_step(struct gdb *g, const char *args)
{
    (void)args;
    gdb_resume_all(g, GDB_STEP);
}

void gdb_run_vcont_ask(struct gdb *g, const char *args)
{
    (void)args;
    gdb_put(&g->reply, "vCont;c;C;s;S");
}

/* One of "c", "s", "C05", "S05": signals mean nothing to a processor. */
static bool gdb_scan_action(const char **p, enum gdb_action *action)
{
    char what = **p;
    uint64_t signal;

    if (!what || !strchr("cCsS", what))
        return false;
    ++*p;
    *action = what == 'c' || what == 'C' ? GDB_CONTINUE : GDB_STEP;
    return what == 'c' || what == 's' || gdb_scan_hex(p, &signal);
}

/* ACTION[:THREAD];...: the leftmost one that fits a thread is its own; without one it stands. */
static bool gdb_scan_actions(const struct gdb *g, const char *p, enum gdb_action *action)
{
    enum gdb_action a;

    for (;;) {
        int cpu = -1;

        if (!gdb_scan_action(&p, &a) || (*p == ':' && (++p, !gdb_scan_thread(g, &p, &cpu))))
            return false;
        for (unsigned i = 0; i < g->vm->nvcpus; i++)
            if (action[i] == GDB_HOLD && (cpu < 0 || cpu == (int)i))
                action[i] = a;
        if (*p != ';')
            return !*p;
        p++;
    }
}

void gdb_run_vcont(struct gdb *g, const char *args)
{
    enum gdb_action action[CONFIG_MAX_CPUS] = { GDB_HOLD };

    if (gdb_scan_actions(g, args, action))
        gdb_resume(g, action);
    else
        gdb_error(g, GDB_EINVAL);
}

/* --- leaving --- */

/* The answer must be on its way before the guest is; the client then closes the connection. */
void gdb_run_detach(struct gdb *g, const char *args)
{
    (void)args;
    gdb_ok(g);
    gdb_send(g);
    g->answered = true;
    gdb_release(g);
}

void gdb_run_kill(struct gdb *g, const char *args)
{
    (void)args;
    g->answered = true;
    vm_end(g->vm, VM_END_POWEROFF, 0, "the debugger ended the VM");
}
