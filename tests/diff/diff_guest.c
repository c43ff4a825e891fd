/*
 * diff_guest.c: the same instruction in bt: a bare VM in 64-bit mode at CPL 3, flat, with page tables for
 * the addresses of diff.h. Faults are taken from the interpreter before they would be delivered.
 */
#include "diff.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include "accel/bt/bt.h"
#include "accel/bt/bt_block.h"
#include "accel/bt/bt_jit.h"
#include "accel/bt/bt_sys.h"
#include "vm/vm.h"

enum { RAM = 2 * MIB, TABLES = 0x1000, DATA_GPA = 0x10000, CODE_GPA = 0x20000 };
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4 };

struct diff_guest {
    struct vm_config cfg;
    struct vm *vm;
    struct ram_region ram;
    struct vcpu vcpu;
    struct bt_cpu *cpu;
};

static void diff_guest_map(struct diff_guest *g, uint64_t lin, uint64_t gpa, unsigned flags)
{
    uint64_t table = TABLES;

    for (unsigned shift = 39; shift > PAGE_SHIFT; shift -= 9) {
        uint64_t *e = (uint64_t *)(g->ram.hva + table) + (lin >> shift & 511);

        /* One path of tables suffices: all addresses are within 2 MiB. */
        *e = (table + PAGE_SIZE) | PTE_P | PTE_W | PTE_U;
        table += PAGE_SIZE;
    }
    ((uint64_t *)(g->ram.hva + table))[lin >> PAGE_SHIFT & 511] = gpa | PTE_P | PTE_U | flags;
}

static void diff_guest_code(struct bt_cpu *c, bool code32)
{
    const unsigned attr = SEG_S | SEG_P | SEG_DPL | SEG_RW | SEG_ACCESSED | SEG_CODE | SEG_G;

    c->s.seg[X86_CS] = (struct x86_seg){ .sel = code32 ? 0x23 : 0x33,
                                         .limit = ~0u,
                                         .attr = (uint16_t)(attr | (code32 ? SEG_DB : SEG_L)) };
    bt_mode_changed(c);
}

static void diff_guest_mode(struct bt_cpu *c, uint64_t xcr0)
{
    struct x86_state *s = &c->s;
    const unsigned user = SEG_S | SEG_P | SEG_DPL | SEG_RW | SEG_ACCESSED;

    s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    s->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    s->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    s->cr3 = TABLES;
    s->xcr0 = xcr0;
    for (unsigned i = 0; i < X86_NSREGS; i++)
        s->seg[i] = (struct x86_seg){ .attr = (uint16_t)(SEG_UNUSABLE) };
    s->seg[X86_SS] =
        (struct x86_seg){ .sel = 0x2b, .limit = ~0u, .attr = (uint16_t)(user | SEG_DB | SEG_G) };
    s->seg[X86_DS] = s->seg[X86_ES] = s->seg[X86_SS];
    s->mp_state = X86_MP_RUNNING;
    diff_guest_code(c, false);
    bt_sys_state_loaded(c);
}

struct diff_guest *diff_guest_create(uint64_t xcr0)
{
    struct diff_guest *g = calloc(1, sizeof(*g));
    struct cpuid_limits limits;
    struct err e = { 0 };

    BUG_ON(!g);
    config_init(&g->cfg);
    if (vm_create(&g->vm, &g->cfg, &accel_bt, &e) || ram_alloc(&g->ram, "low", 0, RAM, &e) ||
        physmap_add(&g->vm->mem, &g->ram))
        goto fail;
    accel_bt.limits(g->vm, &limits);
    if (cpuid_build(&g->vm->cpuid, "host", &limits, 1, &e))
        goto fail;
    if (accel_bt.ram_map && accel_bt.ram_map(g->vm, &g->ram))
        goto fail;
    for (unsigned i = 0; i < DIFF_MEM / PAGE_SIZE; i++)
        diff_guest_map(g, DIFF_DATA + i * PAGE_SIZE, DATA_GPA + i * PAGE_SIZE,
                       i < DIFF_RW / PAGE_SIZE ? PTE_W : 0);
    diff_guest_map(g, DIFF_CODE, CODE_GPA, PTE_W);
    diff_guest_map(g, DIFF_CODE + PAGE_SIZE, CODE_GPA + PAGE_SIZE, PTE_W);
    g->vcpu.vm = g->vm;
    g->cpu = bt_cpu_create(&g->vcpu, &e);
    if (!g->cpu)
        goto fail;
    diff_guest_mode(g->cpu, xcr0);
    bt_sys_enter(g->cpu);
    return g;
fail:
    fprintf(stderr, "diff: %s\n", e.msg);
    exit(2);
}

void diff_guest_destroy(struct diff_guest *g)
{
    bt_cpu_destroy(g->cpu);
    vm_destroy(g->vm);
    ram_free(&g->ram);
    config_fini(&g->cfg);
    free(g);
}

static void diff_guest_result(struct diff_guest *g, int ret, struct diff_result *r)
{
    struct bt_cpu *cpu = g->cpu;

    bt_fpu_store(cpu);
    memcpy(r->regs.xsave, cpu->s.xsave, X86_XSAVE_SIZE);
    memcpy(r->regs.gpr, cpu->s.gpr, sizeof(cpu->s.gpr));
    r->regs.rflags = cpu->s.rflags;
    r->regs.rip = cpu->s.rip;
    memcpy(r->mem, g->ram.hva + DATA_GPA, DIFF_RW);
    r->trap = -1;
    r->error = 0;
    r->cr2 = 0;
    if (ret == BT_FAULT || ret == BT_TRAP) {
        r->trap = cpu->s.exception_vector;
        r->error = cpu->s.exception_has_error ? cpu->s.exception_error : 0;
        r->cr2 = r->trap == X86_PF ? cpu->s.cr2 : 0;
    } else if (ret != BT_NEXT && ret != BT_JUMP) {
        r->trap = 1000 + ret;
    }
}

static int diff_guest_interpret(struct bt_cpu *cpu)
{
    int ret = 0;
    struct bt_block *b = bt_block_find(cpu, true, &ret);

    return b ? bt_enter(cpu, b, cpu->s.rip) : ret;
}

/* The instruction and the HLT behind it, whose #GP says that it got there. */
static int diff_guest_translate(struct bt_cpu *cpu, uint64_t end)
{
    struct bt_block *b;
    int ret = 0;

    bt_fpu_load(cpu); /* the mode depends on the x87 control word */
    b = bt_block_find(cpu, false, &ret);
    if (!b)
        return ret;
    bt_jit_heat(cpu, b, cpu->s.rip);
    if (!bt_jit_ready(cpu, b, cpu->s.rip)) /* after a flush */
        return diff_guest_interpret(cpu);
    ret = bt_jit_enter(cpu, b, cpu->s.rip);
    if (ret != BT_FAULT || cpu->s.rip != end || cpu->s.exception_vector != X86_GP)
        return ret;
    cpu->s.exception_pending = false;
    return BT_JUMP;
}

void diff_guest_run(struct diff_guest *g, const struct diff_case *c, bool translated,
                    struct diff_result *r)
{
    struct bt_cpu *cpu = g->cpu;
    uint64_t code = CODE_GPA + c->slot * DIFF_SLOT;
    int ret;

    memcpy(g->ram.hva + DATA_GPA, c->mem, DIFF_MEM);
    memset(g->ram.hva + code, 0xf4, DIFF_SLOT); /* HLT */
    memcpy(g->ram.hva + code, c->code, c->len);
    bt_code_written(g->vm, code, DIFF_SLOT);
    memcpy(cpu->s.xsave, c->regs.xsave, X86_XSAVE_SIZE);
    memcpy(cpu->s.gpr, c->regs.gpr, sizeof(cpu->s.gpr));
    cpu->s.rflags = c->regs.rflags;
    cpu->s.rip = c->regs.rip;
    cpu->s.cr2 = 0;
    cpu->s.exception_pending = false;
    diff_guest_code(cpu, c->code32);
    atomic_store(&cpu->kick, false);
    bt_jit_recheck(cpu);
    if (translated)
        ret = diff_guest_translate(cpu, c->regs.rip + c->len);
    else
        ret = diff_guest_interpret(cpu);
    diff_guest_result(g, ret, r);
}

/* For the timer's signal handler. */
static struct bt_cpu *diff_guest_running;

static void diff_guest_timeout(int sig)
{
    (void)sig;
    atomic_store(&diff_guest_running->kick, true);
    bt_jit_kick(diff_guest_running); /* one atomic store. NOLINT(bugprone-signal-handler) */
}

static void diff_guest_timer(struct bt_cpu *cpu)
{
    const struct itimerval limit = { .it_value = { .tv_usec = cpu ? DIFF_TIMEOUT_MS * 1000 : 0 } };

    if (cpu) {
        diff_guest_running = cpu;
        signal(SIGALRM, diff_guest_timeout);
    }
    setitimer(ITIMER_REAL, &limit, NULL);
}

/* As the run loop does. */
static int diff_guest_loop(struct bt_cpu *cpu, bool translated)
{
    int ret = BT_JUMP;

    while (ret == BT_NEXT || ret == BT_JUMP) {
        struct bt_block *b;

        if (atomic_load(&cpu->kick))
            return DIFF_TIMEOUT;
        b = bt_block_find(cpu, !translated, &ret);
        if (!b)
            break;
        if (translated)
            bt_jit_heat(cpu, b, cpu->s.rip);
        ret = bt_enter(cpu, b, cpu->s.rip);
        if (ret == BT_FAULT && cpu->split.retry) {
            cpu->split.retry = false;
            ret = BT_JUMP;
        }
    }
    return ret;
}

void diff_guest_program(struct diff_guest *g, const struct diff_program *p, bool translated,
                        struct diff_result *r)
{
    struct bt_cpu *cpu = g->cpu;
    int ret;

    diff_program_memory(p, g->ram.hva + DATA_GPA);
    memset(g->ram.hva + CODE_GPA, 0xf4, DIFF_CODE_LEN);
    memcpy(g->ram.hva + CODE_GPA + p->offset, p->code, p->len);
    bt_code_written(g->vm, CODE_GPA, DIFF_CODE_LEN);
    bt_jit_recheck(cpu);
    if (p->cold)
        bt_tlb_flush_all(cpu);
    memcpy(cpu->s.xsave, p->regs.xsave, X86_XSAVE_SIZE);
    memcpy(cpu->s.gpr, p->regs.gpr, sizeof(cpu->s.gpr));
    cpu->s.rflags = p->regs.rflags;
    cpu->s.rip = DIFF_CODE + p->offset;
    cpu->s.cr2 = 0;
    cpu->s.exception_pending = false;
    diff_guest_code(cpu, p->code32);
    atomic_store(&cpu->kick, false);
    diff_guest_timer(cpu);
    ret = diff_guest_loop(cpu, translated);
    bt_fpu_store(cpu); /* before code that may use the registers */
    diff_guest_timer(NULL);
    diff_guest_result(g, ret, r);
    if (ret == DIFF_TIMEOUT)
        r->trap = DIFF_TIMEOUT;
}
