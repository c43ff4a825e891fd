/*
 * fuzz_bt.c: any bytes as guest code, at any privilege level and in every mode, over tables and data that
 * the input makes up too. Nothing may leave the VM's RAM: around it lie pages that nobody may touch, next
 * to it in guest-physical space lies nothing. Every run ends soon after it is asked to. What is translated
 * reaches memory with no check but its own, so what lies around struct bt_cpu, which its code has in a
 * register, is looked at after each run.
 *
 * Input: mode (bit 7: single steps; bit 6: interpret first, else translate at once), flags, a byte for each
 * general register, length of the code, code, then patches of memory {address / 16, length, bytes}.
 */
#include "accel/bt/bt.h"
#include "accel/bt/bt_jit.h"

#include <signal.h>
#include <time.h>

#include "fuzz.h"
#include "mem/guest.h"

enum {
    RAM = 512 * KIB,
    TABLES = 0x1000, /* PML4, PDPT, PD, PT */
    GDT = 0x5000,
    IDT = 0x6000,
    TSS = 0x7000,
    CODE = 0x10000,
    STACK = 0x20000,
    DATA = 0x30000,
    ALIAS = 0x40000, /* the page tables map this page elsewhere */
    RUN_NS = 400000,
    RUNS = 2,
    STEPS = 64,
    CANARY = 16 * KIB, /* at the low end of what signals are delivered on, out of their reach */
    CANARY_BYTE = 0xa5,
};
enum { MODE16, MODE32, MODE32_PAGED, MODE64, MODE64_USER, MODE32_USER, MODE_COMPAT, MODE_V86 };

static struct fuzz_bt {
    struct vm_config cfg;
    struct vm *vm;
    struct ram_region ram;
    struct ram_region strange; /* allocated like RAM, but no part of the VM */
    struct bt_cpu *stepper;
    struct bt_cpu before; /* the runner, before it runs */
    struct x86_state s;
    timer_t timer;
} * fuzz_bt;

static void fuzz_bt_kick(int sig)
{
    (void)sig;
    accel_bt.kick(fuzz_bt->vm->vcpu[0]);
}

static void fuzz_bt_timer(struct fuzz_bt *t)
{
    struct sigaction sa = { .sa_handler = fuzz_bt_kick, .sa_flags = SA_RESTART };
    struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };

    BUG_ON(sigaction(SIGRTMIN, &sa, NULL) != 0);
    BUG_ON(timer_create(CLOCK_MONOTONIC, &ev, &t->timer) != 0);
}

/* --- what the guest must not change --- */
static uint8_t *fuzz_bt_below(struct bt_cpu *c)
{
    return (uint8_t *)c - offsetof(struct bt_jit_cpu, cpu) + offsetof(struct bt_jit_cpu, below);
}

static void fuzz_bt_canaries(struct fuzz_bt *t)
{
    memset(fuzz_bt_below(t->vm->vcpu[0]->accel), CANARY_BYTE, CANARY);
    memset(t->strange.hva, CANARY_BYTE, CANARY);
}

static void fuzz_bt_check(struct fuzz_bt *t)
{
    struct bt_cpu *c = t->vm->vcpu[0]->accel, *was = &t->before;
    const uint8_t *below = fuzz_bt_below(c), *strange = t->strange.hva;
    const struct bt_jit_jc *jc = bt_jit_jc(c);

    BUG_ON(c->vcpu != was->vcpu || c->vm != was->vm || c->mem != was->mem);
    BUG_ON(c->cache != was->cache || c->jit != was->jit || c->mem_priv != was->mem_priv);
    for (unsigned i = 0; i < CANARY; i++)
        BUG_ON(below[i] != CANARY_BYTE || strange[i] != CANARY_BYTE);
    for (unsigned i = 0; i < ARRAY_SIZE(jc->entry); i++)
        BUG_ON(jc->entry[i].key && jc->entry[i].code - (uintptr_t)c->jit->x >= c->jit->used);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static struct fuzz_bt t;
    struct err e = { 0 };

    (void)argc;
    (void)argv;
    fuzz_confine();
    fuzz_signals_save();
    fuzz_bt = &t;
    config_init(&t.cfg);
    BUG_ON(vm_create(&t.vm, &t.cfg, &accel_bt, &e) != 0);
    BUG_ON(ram_alloc(&t.ram, "low", 0, RAM, &e) != 0);
    BUG_ON(physmap_add(&t.vm->mem, &t.ram) != 0);
    BUG_ON(vm_create_vcpus(t.vm, &e) != 0);
    BUG_ON(physmap_log_start(&t.vm->mem) != 0);
    t.stepper = bt_cpu_create(t.vm->vcpu[0], &e);
    BUG_ON(!t.stepper);
    BUG_ON(ram_alloc(&t.strange, "strange", 0, CANARY, &e) != 0);
    fuzz_bt_canaries(&t);
    fuzz_signals_chain();
    fuzz_bt_timer(&t);
    return 0;
}

/* --- the guest's world --- */

static void fuzz_bt_tables(uint8_t *ram, bool pae)
{
    if (!pae) { /* one directory, one table */
        st_le32(ram + TABLES, (TABLES + 0x1000) | 7);
        for (unsigned i = 0; i < 1024; i++)
            st_le32(ram + TABLES + 0x1000 + 4 * i, (i % 256) * PAGE_SIZE | 7);
        return;
    }
    for (unsigned i = 0; i < 3; i++)
        st_le64(ram + TABLES + 0x1000 * i, (TABLES + 0x1000 * (i + 1)) | 7);
    for (unsigned i = 0; i < 512; i++) /* past the end of RAM, too */
        st_le64(ram + TABLES + 0x3000 + 8 * i,
                (uint64_t)(i % 256) * PAGE_SIZE | (i & 7 ? 7 : 0x87));
    st_le64(ram + TABLES + 0x2008, 0x87); /* a large page over all of it */
    st_le64(ram + TABLES + 0x3000 + 8 * (ALIAS / PAGE_SIZE), CODE | 7);
}

static void fuzz_bt_descriptors(struct fuzz_bt *t)
{
    static const uint64_t gdt[] = {
        0,
        0x00af9b000000ffff,
        0x00cf93000000ffff,
        0x00affb000000ffff,
        0x00cff3000000ffff,
        0x00cf9b000000ffff,
        0x00cffb000000ffff,
        0x00009b010000ffff,
        0x0000890070000067,
        0,
        0x0000820050000067,
        0,
        0x0000ec0000080000 | CODE,
        0,
    };
    uint8_t *ram = t->ram.hva;
    bool wide = t->s.efer & EFER_LMA;

    for (unsigned i = 0; i < ARRAY_SIZE(gdt); i++)
        st_le64(ram + GDT + 8 * i, gdt[i]);
    for (unsigned i = 0; i < 256; i++) {
        uint64_t sel = wide ? 0x08 : 0x28, gate = (CODE & 0xffff) | sel << 16 | 0x8e00ull << 32;

        gate |= (uint64_t)(CODE >> 16) << 48 | (i & 1 ? 0x6000ull << 32 : 0);
        st_le64(ram + IDT + (wide ? 16 : 8) * i, gate);
    }
    for (unsigned i = 4; i < 0x64; i += 8)
        st_le64(ram + TSS + i, STACK + 0x800);
    t->s.gdtr = (struct x86_dtable){ GDT, sizeof(gdt) - 1 };
    t->s.idtr = (struct x86_dtable){ t->s.cr0 & CR0_PE ? IDT : 0, 0xfff };
    t->s.tr = (struct x86_seg){ TSS, 0x67, 0x40, SEG_P | 11 };
}

static void fuzz_bt_segments(struct x86_state *s, uint64_t base, uint32_t limit, unsigned dpl,
                             unsigned code, unsigned extra)
{
    unsigned common = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | dpl << SEG_DPL_SHIFT;

    for (unsigned i = 0; i < X86_NSREGS; i++)
        s->seg[i] = (struct x86_seg){ base, limit, (uint16_t)((dpl ? 0x20 : 0x10) | dpl),
                                      (uint16_t)(common | extra) };
    s->seg[X86_CS].attr = (uint16_t)(common | SEG_CODE | code);
    s->seg[X86_CS].sel = (uint16_t)((dpl ? 0x30 : 0x28) | dpl);
}

static void fuzz_bt_mode(struct fuzz_bt *t, unsigned mode)
{
    struct x86_state *s = &t->s;
    bool wide = mode == MODE64 || mode == MODE64_USER || mode == MODE_COMPAT;
    unsigned dpl = mode == MODE64_USER || mode == MODE32_USER || mode == MODE_COMPAT ? 3 : 0;

    x86_state_reset(s, 0, true);
    s->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    s->xcr0 = t->stepper->host_xcr0 & (XCR0_X87 | XCR0_SSE | XCR0_AVX);
    s->cr0 = mode == MODE16 ? CR0_ET : CR0_PE | CR0_ET | CR0_NE;
    s->rip = CODE;
    s->cr3 = TABLES;
    if (mode == MODE16 || mode == MODE_V86) {
        fuzz_bt_segments(s, CODE, 0xffff, mode == MODE16 ? 0 : 3, 0, 0);
        for (unsigned i = 0; i < X86_NSREGS; i++)
            s->seg[i].sel = CODE >> 4;
        s->rip = 0;
    } else {
        fuzz_bt_segments(s, 0, ~0u, dpl,
                         wide && mode != MODE_COMPAT ? SEG_G | SEG_L : SEG_G | SEG_DB,
                         SEG_G | SEG_DB);
    }
    if (mode == MODE_V86)
        s->rflags |= FLAG_VM | FLAG_IOPL;
    if (wide) {
        s->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
        s->cr4 |= CR4_PAE | CR4_FSGSBASE;
    }
    if (wide || mode == MODE32_PAGED || mode == MODE32_USER || mode == MODE_V86)
        s->cr0 |= CR0_PG | CR0_WP;
    fuzz_bt_tables(t->ram.hva, wide);
    fuzz_bt_descriptors(t);
}

/* Addresses that are worth trying, by a byte: in RAM, at its ends, at ends of pages, not canonical. */
static uint64_t fuzz_bt_value(uint8_t b)
{
    static const uint64_t values[] = {
        DATA,
        DATA + 0xffc,
        STACK,
        CODE,
        CODE + 0xffe,
        RAM - 4,
        RAM - 1,
        RAM,
        TABLES,
        GDT,
        IDT,
        TSS,
        ALIAS,
        0,
        1,
        ~0ull,
        1ull << 47,
        0xffff800000000000,
        0x200000 + RAM - 3,
        0xfee00000,
        0x3fffff,
        0x80000000,
        0x7fffffff,
        0x100,
        0xfffffffffffff000,
        0x1234567,
        8,
        0x2b,
        0x80000001,
        7,
        0x3f8,
        0x30,
    };

    return values[b % ARRAY_SIZE(values)] + (uint64_t)(b / ARRAY_SIZE(values));
}

static void fuzz_bt_registers(struct x86_state *s, struct fuzz_input *in)
{
    enum { CR4_TOGGLES = CR4_TSD | CR4_DE | CR4_PGE | CR4_UMIP };
    uint8_t bits = fuzz_u8(in);

    for (unsigned i = 0; i < 16; i++) {
        uint8_t b = fuzz_u8(in);

        s->gpr[i] = b ? fuzz_bt_value(b) : i == X86_RSP ? STACK : DATA;
        if (!(s->efer & EFER_LMA))
            s->gpr[i] = (uint32_t)s->gpr[i];
    }
    if (bits & 1)
        s->rflags |= FLAG_TF;
    if (bits & 2)
        s->rflags |= FLAG_DF;
    if (bits & 4)
        s->rflags |= FLAG_IF;
    if (bits & 8)
        s->cr4 |= CR4_TOGGLES;
    if ((bits & 16) && (s->cr0 & CR0_PG))
        s->cr4 |= CR4_SMEP | CR4_SMAP | (s->efer & EFER_LMA ? CR4_PCIDE : 0);
    if (bits & 32) {
        s->dr[0] = fuzz_bt_value(bits);
        s->dr7 = 0x402 | (uint64_t)bits << 16;
    }
    if (bits & 64)
        s->rflags |= FLAG_AC | FLAG_NT;
}

static void fuzz_bt_memory(struct fuzz_bt *t, struct fuzz_input *in)
{
    unsigned len = fuzz_u8(in);

    fuzz_bytes(in, t->ram.hva + CODE, len);
    while (in->len > 3) {
        uint32_t at = fuzz_u16(in) * 16u % RAM;

        len = fuzz_u8(in);
        fuzz_bytes(in, t->ram.hva + at, min_u64(len, RAM - at));
    }
}

/* --- running --- */

static void fuzz_bt_run(struct fuzz_bt *t, unsigned mode)
{
    const struct itimerspec soon = { { 0, RUN_NS }, { 0, RUN_NS } }, off = { 0 };
    struct vcpu *v = t->vm->vcpu[0];
    enum run_exit why = RUN_KICKED;

    t->before = *(struct bt_cpu *)v->accel;
    t->before.jit->hot = mode & 0x40 ? BT_JIT_HOT : 1;
    BUG_ON(vcpu_set_state(v, &t->s) != 0);
    for (unsigned i = 0; i < RUNS && why == RUN_KICKED; i++) {
        timer_settime(t->timer, 0, &soon, NULL);
        why = accel_bt.run(v);
        timer_settime(t->timer, 0, &off, NULL);
    }
    BUG_ON(vcpu_get_state(v, &t->s) != 0);
    fuzz_bt_check(t);
}

/* One instruction at a time, as accelerator kvm uses the interpreter. */
static void fuzz_bt_steps(struct fuzz_bt *t)
{
    for (unsigned i = 0; i < STEPS; i++)
        if (bt_step_one(t->stepper, &t->s) != RUN_KICKED)
            break;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in = { data, len };
    struct fuzz_bt *t = fuzz_bt;
    uint8_t mode = fuzz_u8(&in), code[16];

    memset(t->ram.hva, 0, RAM);
    fuzz_bt_mode(t, mode % 8);
    fuzz_bt_registers(&t->s, &in);
    fuzz_bt_memory(t, &in);
    bt_code_written(t->vm, 0, RAM);
    if (mode & 0x80)
        fuzz_bt_steps(t);
    else
        fuzz_bt_run(t, mode);
    vm_read_virtual(t->vm, &t->s, t->s.rip, code, sizeof(code));
    return 0;
}
