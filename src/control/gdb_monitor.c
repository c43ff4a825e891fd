/*
 * gdb_monitor.c: what gdb's `monitor` command says to us: qRcmd packets, text in hex both ways. For what the
 * protocol itself has no packet for.
 */
#include "control/gdb_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MONITOR_LINE = 128 };

/* A line of the answer. */
static void gdb_monitor_say(struct gdb *g, const char *fmt, ...) printf_like(2, 3);
static void gdb_monitor_say(struct gdb *g, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    gdb_put_hex(&g->reply, text, strlen(text));
}

static void gdb_monitor_help(struct gdb *g, const char *arg);

static void gdb_monitor_info(struct gdb *g, const char *arg)
{
    char text[96];

    (void)arg;
    gdb_monitor_say(g, "VM %s: accelerator %s, %llu MiB of RAM, CPU model %s\n", g->vm->cfg->name,
                    g->vm->accel->name, (unsigned long long)(g->vm->cfg->memory / MIB),
                    g->vm->cpuid.model);
    for (unsigned i = 0; i < g->vm->nvcpus; i++) {
        gdb_describe_cpu(g, i, text, sizeof(text));
        gdb_monitor_say(g, "%c %s\n", i == g->cpu ? '*' : ' ', text);
    }
}

static void gdb_monitor_segment(struct gdb *g, const char *name, const struct x86_seg *s)
{
    gdb_monitor_say(g, "%-4s %04x  base %016llx  limit %08x  attributes %04x%s\n", name, s->sel,
                    (unsigned long long)s->base, s->limit, s->attr,
                    s->attr & SEG_UNUSABLE ? " (unusable)" : "");
}

static void gdb_monitor_registers(struct gdb *g, const char *arg)
{
    static const char *const names[X86_NSREGS] = { "es", "cs", "ss", "ds", "fs", "gs" };
    const struct x86_state *s = gdb_state(g, g->cpu);

    (void)arg;
    if (!s) {
        gdb_monitor_say(g, "The accelerator does not give the registers.\n");
        return;
    }
    for (unsigned i = 0; i < X86_NSREGS; i++)
        gdb_monitor_segment(g, names[i], &s->seg[i]);
    gdb_monitor_segment(g, "ldtr", &s->ldtr);
    gdb_monitor_segment(g, "tr", &s->tr);
    gdb_monitor_say(g, "gdtr       base %016llx  limit %04x\n", (unsigned long long)s->gdtr.base,
                    s->gdtr.limit);
    gdb_monitor_say(g, "idtr       base %016llx  limit %04x\n", (unsigned long long)s->idtr.base,
                    s->idtr.limit);
    for (unsigned i = 0; i < ARRAY_SIZE(s->dr); i++)
        gdb_monitor_say(g, "dr%u %016llx  ", i, (unsigned long long)s->dr[i]);
    gdb_monitor_say(g, "\ndr6 %08llx  dr7 %08llx  xcr0 %llx  apic base %llx\n",
                    (unsigned long long)s->dr6, (unsigned long long)s->dr7,
                    (unsigned long long)s->xcr0, (unsigned long long)s->apic_base);
}

static void gdb_monitor_translate(struct gdb *g, const char *arg)
{
    const struct x86_state *s = gdb_state(g, g->cpu);
    uint64_t lin, gpa;

    if (!strncmp(arg, "0x", 2))
        arg += 2;
    if (!gdb_scan_hex(&arg, &lin) || *arg)
        gdb_monitor_say(g, "Give an address in hexadecimal digits.\n");
    else if (!s || !vm_translate(g->vm, s, lin, &gpa))
        gdb_monitor_say(g, "%#llx is not mapped.\n", (unsigned long long)lin);
    else
        gdb_monitor_say(g, "%#llx is physical %#llx\n", (unsigned long long)lin,
                        (unsigned long long)gpa);
}

static void gdb_monitor_memory(struct gdb *g, const char *arg)
{
    if (!strcmp(arg, "physical") || !strcmp(arg, "virtual"))
        g->physical = *arg == 'p';
    gdb_monitor_say(g, "Memory is shown by %s address.\n", g->physical ? "physical" : "virtual");
}

static void gdb_monitor_step_interrupts(struct gdb *g, const char *arg)
{
    if (!strcmp(arg, "on") || !strcmp(arg, "off"))
        g->step_irqs = !strcmp(arg, "on");
    gdb_monitor_say(g, "Single steps %s interrupts.\n", g->step_irqs ? "take" : "hold back");
}

static void gdb_monitor_nmi(struct gdb *g, const char *arg)
{
    (void)arg;
    vm_nmi_all(g->vm);
    g->state_valid = false;
    gdb_monitor_say(g, "Each CPU will take an NMI.\n");
}

static const struct {
    const char *name, *arg, *help;
    void (*run)(struct gdb *g, const char *arg);
} gdb_monitor_commands[] = {
    { "help", "", "this list", gdb_monitor_help },
    { "info", "", "the VM and its CPUs", gdb_monitor_info },
    { "registers", "", "segments, descriptor tables and debug registers of this CPU",
      gdb_monitor_registers },
    { "translate", "ADDRESS", "a virtual address to a physical one", gdb_monitor_translate },
    { "memory", "virtual|physical", "what addresses mean from now on", gdb_monitor_memory },
    { "step-interrupts", "on|off", "take interrupts during single steps",
      gdb_monitor_step_interrupts },
    { "nmi", "", "send an NMI to each CPU", gdb_monitor_nmi },
};

static void gdb_monitor_help(struct gdb *g, const char *arg)
{
    (void)arg;
    for (size_t i = 0; i < ARRAY_SIZE(gdb_monitor_commands); i++) {
        char left[40];

        snprintf(left, sizeof(left), "%s %s", gdb_monitor_commands[i].name,
                 gdb_monitor_commands[i].arg);
        gdb_monitor_say(g, "%-26s %s\n", left, gdb_monitor_commands[i].help);
    }
}

void gdb_monitor(struct gdb *g, const char *args)
{
    char line[MONITOR_LINE] = "", *arg;
    size_t n = strlen(args) / 2;

    if (n >= sizeof(line) || !gdb_scan_bytes(args, line, n)) {
        gdb_error(g, GDB_EINVAL);
        return;
    }
    arg = line + strcspn(line, " ");
    if (*arg)
        *arg++ = '\0';
    arg += strspn(arg, " ");
    for (size_t i = 0; i < ARRAY_SIZE(gdb_monitor_commands); i++) {
        if (!strcmp(line, gdb_monitor_commands[i].name)) {
            gdb_monitor_commands[i].run(g, arg);
            return;
        }
    }
    gdb_monitor_say(g, "There is no command \"%s\"; `monitor help` lists them.\n", line);
}
