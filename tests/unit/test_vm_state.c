/*
 * Whole machines saved and loaded: a `pc` with a small guest at work goes from VM to VM and between the
 * accelerators, is paused again and again, and refuses what is not its own. tests/guest/state does the
 * same with a Linux.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "boot/boot_place.h"
#include "vm/machine_pc.h"

enum {
    MEMORY = 16 * MIB,
    BOOT_AREA = 0x1000, /* for descriptors and page tables */
    CODE = 0x200000,
    IDT = 0x280000,
    STACK = 0x300000,
    DATA = 0x400000, /* ticks at 0, the sum at 8, SSE's at 16 */
    PORT_EXIT = 0xf4,
    STATUS_OK = 21, /* of a guest that is content */
    SLICE_NS = 8000000,
    TICKS = 100,
    SUM_ROUNDS = 200000,
};

/* --- guests: assembled with this file, between name_start and name_end --- */

#define GUEST(name, text)                                                                          \
    __asm__(".pushsection .rodata\n.code64\n.intel_syntax noprefix\n" #name "_start:\n" text       \
            "\n" #name "_end:\n.att_syntax\n.popsection\n");                                       \
    extern const char name##_start[], name##_end[];
#define EXIT "mov al, 10; mov dx, 0xf4; out dx, al; 8: hlt; jmp 8b\n" /* (10 << 1) | 1 */

/* Sums in integer and SSE registers while the APIC's timer ticks; halts until there are enough ticks. */
GUEST(busy,
      "mov al, 0xff; out 0x21, al; mov rax, cr4; or eax, 0x600; mov cr4, rax\n"
      "mov edi, 0xfee00000; mov dword ptr [rdi+0xf0], 0x1ff; mov dword ptr [rdi+0x3e0], 0xb\n"
      "mov dword ptr [rdi+0x320], 0x20051; mov dword ptr [rdi+0x380], 1000000; sti\n"
      "xor eax, eax; mov ebx, 0x10dcd; mov edx, 7; movq xmm1, rdx; pxor xmm0, xmm0\n"
      "mov ecx, 200000\n"
      "1: imul rax, rbx; add rax, rcx; mov [0x400008], rax; paddq xmm0, xmm1\n"
      "pushfq; popfq; loop 1b\n" /* slow enough that the state is saved in the middle of it */
      "movq [0x400010], xmm0\n"
      "2: hlt; cmp dword ptr [0x400000], 100; jb 2b\n" EXIT ".org busy_start+512\n"
      "inc dword ptr [0x400000]; push rdi; mov edi, 0xfee000b0; mov dword ptr [rdi], 0; pop rdi\n"
      "iretq\n")

/* The old way: PIT, 8259 in virtual wire mode, a kilohertz. */
GUEST(wire, "mov al, 0x11; out 0x20, al; mov al, 0x50; out 0x21, al; mov al, 4; out 0x21, al\n"
            "mov al, 1; out 0x21, al; mov al, 0xfe; out 0x21, al\n"
            "mov al, 0x34; out 0x43, al; mov al, 0xa9; out 0x40, al; mov al, 4; out 0x40, al; sti\n"
            "2: hlt; cmp dword ptr [0x400000], 100; jb 2b\n" EXIT ".org wire_start+512\n"
            "inc dword ptr [0x400000]; push rax; mov al, 0x20; out 0x20, al; pop rax; iretq\n")

struct guest {
    const char *start, *end;
    unsigned vector; /* its handler is 512 bytes into it */
};
static const struct guest busy = { busy_start, busy_end, 0x51 },
                          wire = { wire_start, wire_end, 0x50 };

/* --- a machine --- */

struct pc {
    struct vm_config cfg;
    struct vm *vm;
    struct loop_timer timer;
    unsigned pauses; /* left to be made */
};

static char *replaced(char **old, const char *text)
{
    free(*old);
    return *old = strdup(text);
}

/* model NULL: the lowest. */
static struct pc *pc_configure(unsigned cpus, uint64_t memory, const char *model)
{
    struct pc *p = calloc(1, sizeof(*p));

    assert_non_null(p);
    config_init(&p->cfg);
    p->cfg.cpus = cpus;
    p->cfg.memory = memory;
    p->cfg.debug_exit_port = PORT_EXIT;
    replaced(&p->cfg.cpu, model ? model : "x86-64-v2");
    replaced(&p->cfg.net, "none");
    replaced(&p->cfg.serial, "none");
    return p;
}

static struct pc *pc_build(struct pc *p, const struct accel_ops *accel)
{
    struct err e = { 0 };

    if (vm_create(&p->vm, &p->cfg, accel, &e) || machine_pc_create(p->vm, &e) ||
        vm_create_vcpus(p->vm, &e))
        fail_msg("%s", e.msg);
    return p;
}

static struct pc *pc_create(const struct accel_ops *accel, unsigned cpus, uint64_t memory,
                            const char *model)
{
    return pc_build(pc_configure(cpus, memory, model), accel);
}

static void pc_destroy(struct pc *p)
{
    vm_destroy(p->vm);
    config_fini(&p->cfg);
    free(p);
}

static uint8_t *pc_ram(struct pc *p, uint64_t gpa)
{
    return p->vm->mem.region[0]->hva + gpa;
}

/* Puts the guest into memory and vCPU 0 at its start, interrupts through an IDT with one gate. */
static void pc_enter(struct pc *p, const struct guest *g)
{
    struct boot_place place = { .base = BOOT_AREA };
    struct boot_params boot = { .mem = &p->vm->mem, .place = &place };
    struct x86_state *s = calloc(1, sizeof(*s));
    uint8_t gate[16];

    assert_non_null(s);
    st_le32(gate, 0x10 << 16 | ((CODE + 512) & 0xffff));
    st_le32(gate + 4, ((CODE + 512) & 0xffff0000) | 0x8e00);
    st_le64(gate + 8, 0);
    assert_true(guest_write(boot.mem, CODE, g->start, (uint64_t)(g->end - g->start)) &&
                guest_write(boot.mem, IDT + 16 * g->vector, gate, sizeof(gate)) &&
                guest_fill(boot.mem, DATA, 0, 64));
    assert_int_equal(vcpu_get_state(p->vm->vcpu[0], s), 0);
    boot_place_enter64(&boot, s, CODE);
    s->mp_state = X86_MP_RUNNING; /* it may have been saved in HLT */
    s->gpr[X86_RSP] = STACK;
    s->idtr = (struct x86_dtable){ IDT, 0xfff };
    st_le32(s->lapic + 0xf0, 0x1ff);
    st_le32(s->lapic + 0x350, 0x700); /* LINT0: ExtINT */
    assert_int_equal(vcpu_set_state(p->vm->vcpu[0], s), 0);
    free(s);
}

static void pc_on_timer(struct loop_timer *t)
{
    struct pc *p = container_of(t, struct pc, timer);

    if (!p->pauses--) {
        loop_stop(p->vm->loop);
        return;
    }
    vm_pause(p->vm);
    vm_resume(p->vm);
    loop_timer_set(t, util_monotonic_ns() + 500000);
}

/* For a time slice, or until the guest ends. */
static enum vm_end pc_run(struct pc *p, uint64_t ns, unsigned pauses)
{
    enum vm_end end;

    p->pauses = pauses;
    loop_timer_init(p->vm->loop, &p->timer, pc_on_timer);
    loop_timer_set(&p->timer, util_monotonic_ns() + ns);
    end = vm_run(p->vm);
    loop_timer_cancel(&p->timer);
    return end;
}

static void expect_done(struct pc *p)
{
    if (p->vm->end != VM_END_DEBUG_EXIT)
        fail_msg("%s", p->vm->end_reason);
    assert_int_equal(p->vm->end_status, STATUS_OK);
    assert_true(ld_le32(pc_ram(p, DATA)) >= TICKS);
}

static void expect_sum(struct pc *p)
{
    uint64_t sum = 0;

    for (uint64_t i = SUM_ROUNDS; i; i--)
        sum = sum * 0x10dcd + i;
    assert_int_equal(ld_le64(pc_ram(p, DATA + 8)), sum);
    assert_int_equal(ld_le64(pc_ram(p, DATA + 16)), SUM_ROUNDS * 7);
}

static void expect_runs(struct pc *p)
{
    pc_enter(p, &busy);
    while (pc_run(p, 1000000000, 0) == VM_RUNNING)
        ;
    expect_done(p);
    expect_sum(p);
}

/* --- states --- */

static void save(struct pc *p, struct state *s)
{
    state_init_save(s);
    if (vm_state(p->vm, s) == 0)
        vm_ram_state(p->vm, s);
    if (state_error(s))
        fail_msg("%s", state_what(s));
}

/* 0, or -errno with its sentence in what. */
static int load(struct pc *p, const void *buf, size_t len, char *what, size_t what_len)
{
    struct state s;
    int rc;

    state_init_load(&s, buf, len);
    if (vm_state(p->vm, &s) == 0)
        vm_ram_state(p->vm, &s);
    rc = state_error(&s);
    snprintf(what, what_len, "%s", state_what(&s));
    state_fini(&s);
    return rc;
}

static void expect_loads(struct pc *p, const struct state *s)
{
    char what[320];

    if (load(p, s->buf, s->len, what, sizeof(what)))
        fail_msg("%s", what);
}

static void expect_same(const struct state *a, const struct state *b)
{
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->buf, b->buf, a->len);
}

#define SAME(field) assert_memory_equal(&a->field, &b->field, sizeof(a->field))

static void expect_same_segment(const struct x86_seg *a, const struct x86_seg *b)
{
    SAME(base);
    SAME(limit);
    SAME(sel);
    SAME(attr);
}

/* What the version, the PPR and the timer's count show is the accelerator's, or moves on with the clock. */
static void expect_same_lapic(const struct x86_state *a, const struct x86_state *b)
{
    for (unsigned i = 0; i < X86_LAPIC_SIZE; i += 16)
        if (i != 0x30 && i != 0xa0 && i != 0x390 && ld_le32(a->lapic + i) != ld_le32(b->lapic + i))
            fail_msg("APIC register %#x: %#x is now %#x", i, ld_le32(a->lapic + i),
                     ld_le32(b->lapic + i));
}

static void expect_same_registers(struct pc *from, struct pc *to)
{
    struct x86_state *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));

    assert_true(a && b);
    assert_int_equal(vcpu_get_state(from->vm->vcpu[0], a), 0);
    assert_int_equal(vcpu_get_state(to->vm->vcpu[0], b), 0);
    SAME(gpr);
    SAME(rip);
    SAME(rflags);
    for (unsigned i = 0; i < X86_NSREGS; i++)
        expect_same_segment(&a->seg[i], &b->seg[i]);
    expect_same_segment(&a->tr, &b->tr);
    SAME(gdtr.base);
    SAME(gdtr.limit);
    SAME(idtr.base);
    SAME(idtr.limit);
    SAME(cr0);
    SAME(cr2);
    SAME(cr3);
    SAME(cr4);
    SAME(cr8);
    SAME(xcr0);
    SAME(dr);
    SAME(dr7);
    SAME(efer);
    SAME(star);
    SAME(lstar);
    SAME(sfmask);
    SAME(kernel_gs_base);
    SAME(sysenter_eip);
    SAME(pat);
    SAME(apic_base);
    SAME(tsc_adjust);
    SAME(mtrr_def_type);
    SAME(mtrr_fix);
    SAME(mtrr_var);
    SAME(exception_pending);
    SAME(interrupt_pending);
    SAME(nmi_pending);
    SAME(nmi_masked);
    SAME(mp_state);
    assert_memory_equal(a->xsave + 160, b->xsave + 160, 256);
    expect_same_lapic(a, b);
    free(a);
    free(b);
}

/* --- tests --- */

static const struct accel_ops *const every_bt[] = { &accel_bt };
static const struct accel_ops *const both[] = { &accel_bt, &accel_kvm };

/*
 * A VM for the next slice. An emulated KVM shows more features than the model has (and warns): bt's VMs
 * are given what KVM's have, so that the guest may go back.
 */
static struct pc *pc_of_both(const struct accel_ops *accel, const struct cpuid *shared)
{
    struct pc *p = pc_create(accel, 1, MEMORY, NULL);

    if (shared && accel == &accel_bt)
        p->vm->cpuid = *shared;
    return p;
}

/* The guest lives in a fresh VM for each slice of its life, under each accelerator in turn. */
static unsigned migrate(const struct guest *g, const struct accel_ops *const *accel, unsigned n,
                        const struct cpuid *shared)
{
    struct pc *p = pc_of_both(accel[0], shared), *next;
    struct state s, again;
    unsigned moves = 0;

    pc_enter(p, g);
    while (pc_run(p, SLICE_NS, 0) == VM_RUNNING) {
        next = pc_of_both(accel[++moves % n], shared);
        save(p, &s);
        expect_loads(next, &s);
        expect_same_registers(p, next);
        if (n == 1) {
            save(next, &again);
            expect_same(&s, &again);
            state_fini(&again);
        }
        state_fini(&s);
        pc_destroy(p);
        p = next;
    }
    expect_done(p);
    if (g == &busy)
        expect_sum(p);
    pc_destroy(p);
    return moves;
}

static void test_from_vm_to_vm(void **ctx)
{
    (void)ctx;
    assert_true(migrate(&busy, every_bt, ARRAY_SIZE(every_bt), NULL) > 3);
    assert_true(migrate(&wire, every_bt, ARRAY_SIZE(every_bt), NULL) > 3);
}

static void test_between_accelerators(void **ctx)
{
    struct accel_probe probe;
    struct cpuid_words of_kvm, of_bt;
    struct pc *kvm, *bt;

    (void)ctx;
    accel_probe(&probe);
    if (probe.kvm == ACCEL_KVM_ABSENT) {
        print_message("%s\n", probe.reason);
        skip();
    }
    kvm = pc_create(&accel_kvm, 1, MEMORY, NULL);
    bt = pc_create(&accel_bt, 1, MEMORY, NULL);
    cpuid_features_of(&kvm->vm->cpuid, &of_kvm);
    cpuid_features_of(&bt->vm->cpuid, &of_bt);
    if (probe.kvm == ACCEL_KVM_REAL)
        assert_memory_equal(&of_kvm, &of_bt, sizeof(of_kvm));
    assert_true(migrate(&busy, both, ARRAY_SIZE(both), &kvm->vm->cpuid) > 3);
    assert_true(migrate(&wire, both, ARRAY_SIZE(both), &kvm->vm->cpuid) > 3);
    pc_destroy(kvm);
    pc_destroy(bt);
}

static void test_paused_quickly(void **ctx)
{
    static const struct guest *const guests[] = { &busy, &wire };

    (void)ctx;
    for (unsigned i = 0; i < ARRAY_SIZE(guests); i++) {
        struct pc *p = pc_create(&accel_bt, 1, MEMORY, NULL);

        pc_enter(p, guests[i]);
        pc_run(p, 1000000, 100);
        while (p->vm->end == VM_RUNNING)
            pc_run(p, 1000000000, 0);
        expect_done(p);
        pc_destroy(p);
    }
}

static void test_reset(void **ctx)
{
    struct pc *p = pc_create(&accel_bt, 2, MEMORY, NULL);
    struct err e = { 0 };

    (void)ctx;
    for (int i = 0; i < 5; i++) {
        pc_enter(p, i & 1 ? &busy : &wire);
        pc_run(p, SLICE_NS, 0);
        if (vm_reset(p->vm, &e))
            fail_msg("%s", e.msg);
    }
    expect_runs(p);
    pc_destroy(p);
}

/* The start-up message that comes in the moment of the pause is in the state. */
static void test_late_sipi(void **ctx)
{
    struct pc *p = pc_create(&accel_bt, 2, MEMORY, NULL);
    struct x86_state *s = calloc(1, sizeof(*s));
    struct vcpu *ap = p->vm->vcpu[1];

    (void)ctx;
    assert_non_null(s);
    atomic_store(&ap->sipi_vector, 0x9a);
    vcpu_request(ap, VCPU_REQ_SIPI);
    vcpu_settle(ap);
    assert_int_equal(vcpu_get_state(ap, s), 0);
    assert_int_equal(s->mp_state, X86_MP_RUNNING);
    assert_int_equal(s->seg[X86_CS].sel, 0x9a00);
    free(s);
    pc_destroy(p);
}

static struct pc *started(struct state *s)
{
    struct pc *p = pc_create(&accel_bt, 1, MEMORY, NULL);

    pc_enter(p, &busy);
    assert_int_equal(pc_run(p, SLICE_NS, 0), VM_RUNNING);
    save(p, s);
    return p;
}

/* Refused with this sentence; the VM that refused it is as it was. */
static void expect_refused(struct pc *p, const void *buf, size_t len, const char *sentence)
{
    struct state before, after;
    char what[320];

    save(p, &before);
    assert_int_not_equal(load(p, buf, len, what, sizeof(what)), 0);
    if (!strstr(what, sentence))
        fail_msg("refused with '%s', not '%s'", what, sentence);
    save(p, &after);
    expect_same(&before, &after);
    state_fini(&before);
    state_fini(&after);
}

static void test_other_machines(void **ctx)
{
    static const struct {
        unsigned cpus;
        uint64_t memory;
        const char *model, *sentence;
    } others[] = {
        { 2, MEMORY, NULL, "another number of CPUs: give the same --cpus" },
        { 1, MEMORY + MIB, NULL, "another memory size: give the same --memory" },
    };
    struct state s;
    struct pc *p = started(&s);

    (void)ctx;
    pc_destroy(p);
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
        p = pc_create(&accel_bt, others[i].cpus, others[i].memory, others[i].model);
        expect_refused(p, s.buf, s.len, others[i].sentence);
        expect_runs(p);
        pc_destroy(p);
    }
    state_fini(&s);
}

/* A model with more features goes on with a state of one with fewer; not the other way round. */
static void test_features_must_be_there(void **ctx)
{
    struct pc *host = pc_create(&accel_bt, 1, MEMORY, "host"), *p;
    struct state s;

    (void)ctx;
    p = started(&s);
    pc_destroy(p);
    expect_loads(host, &s);
    state_fini(&s);
    expect_runs(host);
    save(host, &s);
    p = pc_create(&accel_bt, 1, MEMORY, NULL);
    expect_refused(p, s.buf, s.len, "features that this VM does not have: ");
    expect_refused(p, s.buf, s.len, " pcid");
    expect_refused(p, s.buf, s.len, "give the same --cpu (host)");
    memset(host->vm->cpuid.vendor, '?', sizeof(host->vm->cpuid.vendor));
    expect_refused(host, s.buf, s.len, "another vendor");
    state_fini(&s);
    pc_destroy(p);
    pc_destroy(host);
}

/* Where the machine ends and RAM begins. */
static size_t machine_len(struct pc *p)
{
    struct state s;
    size_t len;

    state_init_save(&s);
    assert_int_equal(vm_state(p->vm, &s), 0);
    len = s.len;
    state_fini(&s);
    return len;
}

static void test_cut_short(void **ctx)
{
    struct state s;
    struct pc *from = started(&s), *p = pc_create(&accel_bt, 1, MEMORY, NULL);
    size_t len = machine_len(from);
    char what[320];

    (void)ctx;
    for (size_t cut = 0; cut < len; cut += len / 40)
        expect_refused(p, s.buf, cut, "cut short");
    expect_refused(p, s.buf, len - 1, "cut short");
    /* The machine is whole, its memory is not: such a VM does not run before a reset. */
    assert_int_not_equal(load(p, s.buf, s.len - 1, what, sizeof(what)), 0);
    assert_string_equal(what, "state is cut short");
    assert_int_equal(pc_run(p, SLICE_NS, 0), VM_END_FAILED);
    assert_non_null(strstr(p->vm->end_reason, "not loaded whole"));
    expect_loads(p, &s);
    while (pc_run(p, SLICE_NS, 0) == VM_RUNNING)
        ;
    expect_done(p);
    expect_sum(p);
    state_fini(&s);
    pc_destroy(from);
    pc_destroy(p);
}

/* Offset of a section's version: after its type and id. */
static size_t version_of(const struct state *s, const char *type, const char *id)
{
    char name[64];
    int n = snprintf(name, sizeof(name), "%c%s%c%s", (int)strlen(type), type, (int)strlen(id), id);
    const uint8_t *at = memmem(s->buf, s->len, name, (size_t)n);

    assert_non_null(at);
    return (size_t)(at - s->buf) + (size_t)n;
}

static void test_newer(void **ctx)
{
    static const char *const sections[][2] = {
        { "machine", "pc" }, { "clock", "clock" }, { "x86-cpu", "cpu00" }, { "ns16550", "com1" }
    };
    struct state s;
    struct pc *from = started(&s), *p = pc_create(&accel_bt, 1, MEMORY, NULL);

    (void)ctx;
    for (unsigned i = 0; i < ARRAY_SIZE(sections); i++) {
        size_t at = version_of(&s, sections[i][0], sections[i][1]);

        s.buf[at]++;
        expect_refused(p, s.buf, s.len, "newer version of this program");
        s.buf[at]--;
    }
    expect_runs(p);
    state_fini(&s);
    pc_destroy(from);
    pc_destroy(p);
}

/* A lie inside a section is found when it is applied; a reset makes the VM good again. */
static void test_lies(void **ctx)
{
    enum { RFLAGS = 4 + 8 + 16 * 8 + 8 }; /* from the section's version on */
    struct state s;
    struct pc *from = started(&s), *p = pc_create(&accel_bt, 1, MEMORY, NULL);
    size_t at = version_of(&s, "x86-cpu", "cpu00") + RFLAGS;
    struct err e = { 0 };
    char what[320];

    (void)ctx;
    s.buf[at + 4] = 1;
    assert_int_not_equal(load(p, s.buf, s.len, what, sizeof(what)), 0);
    assert_string_equal(what, "RFLAGS has reserved bits");
    assert_int_equal(pc_run(p, SLICE_NS, 0), VM_END_FAILED);
    assert_int_equal(vm_reset(p->vm, &e), 0);
    expect_runs(p);
    state_fini(&s);
    pc_destroy(from);
    pc_destroy(p);
}

static void vga_config(struct pc *p, unsigned reg, uint32_t val)
{
    uint32_t addr = 0x80000000u | 31 << 11 | reg;

    bus_write(&p->vm->pio, 0xcf8, 4, &addr);
    bus_write(&p->vm->pio, 0xcfc, 4, &val);
}

/* The screen's memory goes where the other machine's firmware had put it. */
static void test_frame_buffer(void **ctx)
{
    struct pc *p[2];
    struct state s;
    uint32_t val = 0x12345678;

    (void)ctx;
    for (unsigned i = 0; i < 2; i++) {
        p[i] = pc_configure(1, MEMORY, NULL);
        replaced(&p[i]->cfg.screenshot, "/dev/null");
        pc_build(p[i], &accel_bt);
        vga_config(p[i], 0x10, i ? 0xc1000000 : 0xe0000000);
        vga_config(p[i], 0x04, 7);
    }
    assert_true(guest_write(&p[0]->vm->mem, 0xe0001000, &val, sizeof(val)));
    save(p[0], &s);
    expect_loads(p[1], &s);
    val = 0;
    assert_true(guest_read(&p[1]->vm->mem, 0xe0001000, &val, sizeof(val)));
    assert_int_equal(val, 0x12345678);
    assert_null(physmap_find(&p[1]->vm->mem, 0xc1001000));
    state_fini(&s);
    pc_destroy(p[0]);
    pc_destroy(p[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_vm_to_vm),
        cmocka_unit_test(test_between_accelerators),
        cmocka_unit_test(test_paused_quickly),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_late_sipi),
        cmocka_unit_test(test_other_machines),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_newer),
        cmocka_unit_test(test_frame_buffer),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_features_must_be_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
