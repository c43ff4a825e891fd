/*
 * Far transfers, IRET, task switches, segment loads and the checks of CR, DR and MSR writes (SDM 2A, 2B, 3A
 * chapters 5 and 7), each as a few bytes of guest code with hand-built tables.
 */
#include "btvm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "accel/bt/bt_desc.h"
#include "base/endian.h"
#include "x86/msr.h"

enum {
    GDT = 0x51000,
    IDT = 0x50000,
    TSS = 0x52000,
    TSS_B = 0x52200,
    TARGET = 0x12000,
    CATCH = 0x13000, /* catch_faults(): #GP, #TS, #NP, #SS halt here */
    KSTACK = 0x31000,
    SEL_CODE = 0x08,
    SEL_DATA = 0x10,
    SEL_UCODE = 0x1b,
    SEL_UDATA = 0x23,
    SEL_TSS = 0x28,
    SEL_GATE = 0x38,
    SEL_TSS_B = 0x48,
    SEL_LAST = 0x78,
};
#define CODE32  0x00cf9b000000ffffull
#define CODE64  0x00af9b000000ffffull
#define DATA    0x00cf93000000ffffull
#define UCODE32 0x00cffb000000ffffull
#define UCODE64 0x00affb000000ffffull
#define UDATA   0x00cff3000000ffffull

static uint8_t *at(struct btvm *t, uint64_t gpa)
{
    return t->ram.hva + gpa;
}

static void desc(struct btvm *t, unsigned sel, uint64_t raw)
{
    st_le64(at(t, GDT + (sel & ~7u)), raw);
}

static uint64_t gate(unsigned sel, uint32_t offset, unsigned attr)
{
    return (offset & 0xffff) | (uint64_t)sel << 16 | (uint64_t)attr << 40 |
           (uint64_t)(offset >> 16) << 48;
}

static uint64_t tss_desc(uint32_t base, unsigned type)
{
    return 0x67 | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(0x80 | type) << 40;
}

static void common(struct btvm *t, bool wide)
{
    desc(t, SEL_CODE, wide ? CODE64 : CODE32);
    desc(t, SEL_DATA, DATA);
    desc(t, SEL_UCODE, wide ? UCODE64 : UCODE32);
    desc(t, SEL_UDATA, UDATA);
    desc(t, SEL_TSS, tss_desc(TSS, DESC_TSS_BUSY));
    t->s.gdtr = (struct x86_dtable){ GDT, SEL_LAST + 7 };
    t->s.tr = (struct x86_seg){ TSS, 0x67, SEL_TSS, SEG_P | DESC_TSS_BUSY };
    for (unsigned i = 0; i < X86_NSREGS; i++)
        t->s.seg[i].sel = SEL_DATA;
    t->s.seg[X86_CS].sel = SEL_CODE;
    memcpy(at(t, TARGET), "\x0f\x0b", 2);
    memcpy(at(t, CATCH), "\xf4", 1);
}

static void mode32(struct btvm *t)
{
    btvm_mode32(t);
    common(t, false);
    st_le32(at(t, TSS + 4), KSTACK);
    st_le16(at(t, TSS + 8), SEL_DATA);
}

static void catch_faults(struct btvm *t)
{
    for (unsigned v = X86_TS; v <= X86_GP; v++)
        st_le64(at(t, IDT + 8 * v), gate(SEL_CODE, CATCH, 0x8e));
    t->s.idtr = (struct x86_dtable){ IDT, 8 * 32 - 1 };
}

static void mode64(struct btvm *t)
{
    btvm_mode64(t);
    common(t, true);
    st_le64(at(t, TSS + 4), KSTACK);
}

static void user(struct btvm *t, uint64_t code)
{
    struct bt_desc cs = { code, SEL_UCODE }, ds = { UDATA, SEL_UDATA };

    for (unsigned i = 0; i < X86_NSREGS; i++)
        t->s.seg[i] = bt_desc_seg(i == X86_CS ? &cs : &ds);
}

static uint64_t slot(struct btvm *t, unsigned n, unsigned size)
{
    const uint8_t *p = at(t, t->s.gpr[X86_RSP] + (uint64_t)n * size);

    return size == 8 ? ld_le64(p) : size == 4 ? ld_le32(p) : ld_le16(p);
}

static int setup(void **state)
{
    *state = btvm_create();
    return 0;
}

static int teardown(void **state)
{
    btvm_destroy(*state);
    return 0;
}

static void test_call_gate_inner(void **state)
{
    struct btvm *t = *state;

    mode32(t);
    desc(t, SEL_GATE, gate(SEL_CODE, TARGET, 0xec) | 2ull << 32); /* DPL 3, two parameters */
    user(t, UCODE32);
    BTVM_RUN(t, 0x6a, 0x11, 0x6a, 0x22,          /* push 0x11; push 0x22 */
             0x9a, 0, 0, 0, 0, SEL_GATE | 3, 0); /* lcall */
    assert_int_equal(t->s.rip, TARGET);
    assert_int_equal(t->s.seg[X86_CS].sel, SEL_CODE);
    assert_int_equal(t->s.seg[X86_SS].sel, SEL_DATA);
    assert_int_equal(t->s.gpr[X86_RSP], KSTACK - 24);
    assert_int_equal(slot(t, 0, 4), BTVM_CODE + 11);
    assert_int_equal(slot(t, 1, 4), SEL_UCODE);
    assert_int_equal(slot(t, 2, 4), 0x22);
    assert_int_equal(slot(t, 3, 4), 0x11);
    assert_int_equal(slot(t, 4, 4), BTVM_STACK - 8);
    assert_int_equal(slot(t, 5, 4), SEL_UDATA);
}

/* RETF with parameters goes back out and releases them on both stacks. */
static void test_call_gate_and_back(void **state)
{
    struct btvm *t = *state;

    mode32(t);
    catch_faults(t);
    desc(t, SEL_GATE, gate(SEL_CODE, TARGET, 0xec) | 1ull << 32);
    memcpy(at(t, TARGET), "\xca\x04\x00", 3); /* retf 4 */
    user(t, UCODE32);
    t->s.seg[X86_DS].sel = SEL_DATA; /* of ring 0: taken away on the way out */
    t->s.seg[X86_DS].attr &= (uint16_t)~SEG_DPL;
    BTVM_RUN(t, 0x6a, 0x11, 0x9a, 0, 0, 0, 0, SEL_GATE | 3, 0);
    /* The UD2 behind it: its empty gate is a #GP. */
    assert_int_equal(slot(t, 0, 4), X86_UD * 8 + 2 + 1);
    assert_int_equal(slot(t, 1, 4), BTVM_CODE + 9);
    assert_int_equal(slot(t, 4, 4), BTVM_STACK);
    assert_int_equal(t->s.seg[X86_DS].attr, SEG_UNUSABLE);
}

static void test_call_gate_64(void **state)
{
    struct btvm *t = *state;

    mode64(t);
    desc(t, SEL_GATE, gate(SEL_CODE, TARGET, 0xec));
    desc(t, SEL_GATE + 8, 0);
    st_le32(at(t, BTVM_DATA), 0);
    st_le16(at(t, BTVM_DATA + 4), SEL_GATE | 3);
    user(t, UCODE64);
    t->s.gpr[X86_RBX] = BTVM_DATA;
    BTVM_RUN(t, 0xff, 0x1b); /* lcall [rbx] */
    assert_int_equal(t->s.rip, TARGET);
    assert_int_equal(t->s.gpr[X86_RSP], KSTACK - 32);
    assert_int_equal(slot(t, 0, 8), BTVM_CODE + 2);
    assert_int_equal(slot(t, 1, 8), SEL_UCODE);
    assert_int_equal(slot(t, 2, 8), BTVM_STACK);
    assert_int_equal(slot(t, 3, 8), SEL_UDATA);
    assert_int_equal(t->s.seg[X86_SS].sel, 0);
}

static void test_call_gate_privilege(void **state)
{
    struct btvm *t = *state;

    mode32(t);
    catch_faults(t);
    desc(t, SEL_GATE, gate(SEL_CODE, TARGET, 0x8c)); /* DPL 0 */
    user(t, UCODE32);
    BTVM_RUN(t, 0x9a, 0, 0, 0, 0, SEL_GATE | 3, 0);
    assert_int_equal(t->s.rip, CATCH + 1);
    assert_int_equal(slot(t, 0, 4), SEL_GATE);
    assert_int_equal(slot(t, 1, 4), BTVM_CODE);
}

static void test_far_return_to_compatibility(void **state)
{
    struct btvm *t = *state;

    mode64(t);
    desc(t, 0x40, UCODE32);
    t->s.rflags |= FLAG_IF;
    BTVM_RUN(t, 0x6a, SEL_UDATA, 0x68, 0x00, 0x80, 0x02, 0x00, /* push ss; push 0x28000 */
             0x6a, 0x43, 0x68, 0x00, 0x20, 0x01, 0x00,         /* push cs; push TARGET */
             0x48, 0xcb);                                      /* retfq */
    assert_int_equal(t->s.rip, TARGET);
    assert_int_equal(t->s.seg[X86_CS].sel, 0x43);
    assert_false(x86_code64(&t->s));
    assert_int_equal(x86_cpl(&t->s), 3);
    assert_int_equal(t->s.gpr[X86_RSP], 0x28000);
}

static void test_iret_to_vm86(void **state)
{
    struct btvm *t = *state;
    uint8_t *frame = at(t, BTVM_STACK);

    mode32(t);
    memcpy(at(t, 0x10010), "\x0f\x0b", 2);
    st_le32(frame, 0x10);
    st_le32(frame + 4, 0x1000);
    st_le32(frame + 8, FLAG_VM | FLAG_1);
    st_le32(frame + 12, 0x100);
    for (unsigned i = 0; i < 5; i++)
        st_le32(frame + 16 + 4 * i, 0x2000 + i);
    t->s.rip = 0x10800;
    memcpy(at(t, 0x10800), "\xcf", 1);
    btvm_go(t);
    assert_int_equal(t->s.rip, 0x10);
    assert_int_equal(t->s.seg[X86_CS].base, 0x10000);
    assert_int_equal(t->s.seg[X86_SS].base, 0x20000);
    assert_int_equal(t->s.seg[X86_GS].sel, 0x2004);
    assert_int_equal(t->s.gpr[X86_RSP], 0x100);
    assert_int_equal(x86_cpl(&t->s), 3);
}

static void task_b(struct btvm *t)
{
    uint8_t *b = at(t, TSS_B);

    desc(t, SEL_TSS_B, tss_desc(TSS_B, DESC_TSS));
    st_le32(b + 32, TARGET);
    st_le32(b + 36, FLAG_1);
    st_le32(b + 40, 0xa);
    st_le32(b + 56, 0x2f000);
    for (unsigned i = 0; i < 6; i++)
        st_le16(b + 72 + 4 * i, i == X86_CS ? SEL_CODE : SEL_DATA);
}

static void test_task_call_and_return(void **state)
{
    struct btvm *t = *state;

    mode32(t);
    task_b(t);
    memcpy(at(t, TARGET), "\xcf", 1); /* iret: back */
    t->s.gpr[X86_RAX] = 0x1234;
    BTVM_RUN(t, 0x9a, 0, 0, 0, 0, SEL_TSS_B, 0, 0x40); /* lcall; inc eax */
    assert_int_equal(t->s.rip, BTVM_CODE + 8);
    assert_int_equal(t->s.gpr[X86_RAX], 0x1235);
    assert_int_equal(t->s.tr.sel, SEL_TSS);
    assert_int_equal(ld_le16(at(t, TSS_B)), SEL_TSS);                        /* the link */
    assert_int_equal(ld_le64(at(t, GDT + SEL_TSS_B)) >> 40 & 0xf, DESC_TSS); /* not busy any more */
    assert_int_equal(ld_le32(at(t, TSS_B + 40)), 0xa);
    assert_true(t->s.cr0 & CR0_TS);
    assert_false(t->s.rflags & FLAG_NT);
}

static void test_task_fault_in_new_context(void **state)
{
    struct btvm *t = *state;

    mode32(t);
    catch_faults(t);
    task_b(t);
    st_le16(at(t, TSS_B + 80), 0); /* SS: null */
    BTVM_RUN(t, 0xea, 0, 0, 0, 0, SEL_TSS_B, 0);
    assert_int_equal(t->s.tr.sel,
                     SEL_TSS_B); /* the switch was made, the #TS (and more) is the new task's */
    assert_int_equal(t->s.gpr[X86_RAX], 0xa);
    assert_int_equal(ld_le64(at(t, GDT + SEL_TSS)) >> 40 & 0xf, DESC_TSS);
}

static void test_segment_loads(void **state)
{
    struct btvm *t = *state;

    mode32(t);
    catch_faults(t);
    t->s.gpr[X86_RAX] = SEL_UDATA;
    BTVM_RUN(t, 0x8e, 0xd8, 0x8e, 0xd0); /* mov ds, ax; mov ss, ax: the wrong privilege */
    assert_int_equal(t->s.rip, CATCH + 1);
    assert_int_equal(slot(t, 0, 4), SEL_UDATA & ~3);
    assert_int_equal(slot(t, 1, 4), BTVM_CODE + 2);
    assert_int_equal(t->s.seg[X86_DS].sel, SEL_UDATA);
    mode32(t);
    catch_faults(t);
    desc(t, SEL_GATE, DATA & ~BIT64(47)); /* not present */
    t->s.gpr[X86_RAX] = SEL_GATE;
    BTVM_RUN(t, 0x8e, 0xe0);
    assert_int_equal(slot(t, 0, 4), SEL_GATE);
    mode32(t);
    desc(t, SEL_GATE, DATA & ~BIT64(40));
    t->s.gpr[X86_RAX] = SEL_GATE;
    BTVM_RUN(t, 0x8e, 0xe0, 0x0f, 0x02, 0xd8);               /* mov fs, ax; lar ebx, ax */
    assert_true(ld_le64(at(t, GDT + SEL_GATE)) & BIT64(40)); /* accessed */
    assert_int_equal(t->s.gpr[X86_RBX], 0x00cf9300);
}

/* WRMSR of edx:eax; did it fault? */
static bool wrmsr_faults(struct btvm *t, uint32_t index, uint64_t v)
{
    mode64(t);
    t->s.gpr[X86_RCX] = index;
    t->s.gpr[X86_RAX] = (uint32_t)v;
    t->s.gpr[X86_RDX] = v >> 32;
    BTVM_RUN(t, 0x0f, 0x30);
    return t->s.rip == BTVM_CODE;
}

static void test_msr_checks(void **state)
{
    struct btvm *t = *state;

    assert_false(wrmsr_faults(t, MSR_LSTAR, 0xffff800000000000));
    assert_int_equal(t->s.lstar, 0xffff800000000000);
    assert_true(wrmsr_faults(t, MSR_LSTAR, 0x8000000000000000));
    assert_true(wrmsr_faults(t, MSR_PAT, 2));
    assert_false(wrmsr_faults(t, MSR_PAT, 0x0007040600070406));
    assert_true(wrmsr_faults(t, MSR_EFER, EFER_LMA | EFER_NXE)); /* LME off while paging */
    assert_true(wrmsr_faults(t, MSR_MTRR_DEF_TYPE, 2));
    assert_false(wrmsr_faults(t, MSR_MTRR_DEF_TYPE, 0xc06));
    assert_true(wrmsr_faults(t, 0x12345678, 0));
    user(t, UCODE64);
}

static bool mov_cr_faults(struct btvm *t, unsigned cr, uint64_t v)
{
    t->s.gpr[X86_RAX] = v;
    t->s.rip = BTVM_CODE;
    BTVM_RUN(t, 0x0f, 0x22, (uint8_t)(0xc0 | cr << 3));
    return t->s.rip == BTVM_CODE;
}

static void test_control_registers(void **state)
{
    struct btvm *t = *state;

    mode64(t);
    assert_true(mov_cr_faults(t, 0, CR0_PG));             /* without PE */
    assert_true(mov_cr_faults(t, 0, t->s.cr0 | CR0_NW));  /* without CD */
    assert_true(mov_cr_faults(t, 0, t->s.cr0 & ~CR0_PG)); /* in 64-bit code */
    assert_true(mov_cr_faults(t, 0, t->s.cr0 | BIT64(32)));
    assert_true(mov_cr_faults(t, 4, t->s.cr4 & ~CR4_PAE)); /* in long mode */
    assert_true(mov_cr_faults(t, 4, t->s.cr4 | BIT64(31)));
    assert_true(mov_cr_faults(t, 3, t->s.cr3 | BIT64(62)));
    assert_false(mov_cr_faults(t, 0, t->s.cr0 | CR0_TS));
    assert_true(t->s.cr0 & CR0_TS);
    mode32(t);
    t->s.efer = EFER_LME;
    assert_true(mov_cr_faults(t, 0, t->s.cr0 | CR0_PG)); /* long mode without PAE */
    t->s.cr4 |= CR4_PAE;
    t->s.cr3 = BTVM_TABLES;
    assert_false(mov_cr_faults(t, 0, t->s.cr0 | CR0_PG));
    assert_true(t->s.efer & EFER_LMA);
    assert_false(x86_code64(&t->s));
}

static void test_syscall_and_sysret(void **state)
{
    struct btvm *t = *state;

    mode64(t);
    t->s.star = (uint64_t)SEL_CODE << 32 | (uint64_t)0x33 << 48;
    t->s.lstar = TARGET;
    t->s.sfmask = FLAG_IF | FLAG_DF;
    t->s.rflags |= FLAG_IF | FLAG_CF;
    user(t, UCODE64);
    BTVM_RUN(t, 0x0f, 0x05);
    assert_int_equal(t->s.rip, TARGET);
    assert_int_equal(t->s.gpr[X86_RCX], BTVM_CODE + 2);
    assert_int_equal(t->s.gpr[X86_R11], FLAG_1 | FLAG_IF | FLAG_CF);
    assert_int_equal(t->s.rflags, FLAG_1 | FLAG_CF);
    assert_int_equal(t->s.seg[X86_CS].sel, SEL_CODE);
    assert_int_equal(x86_cpl(&t->s), 0);
    memcpy(at(t, TARGET), "\x48\x0f\x07", 3); /* sysretq */
    bt_code_written(t->vm, TARGET, 3);
    btvm_go(t);
    assert_int_equal(t->s.rip, BTVM_CODE + 2);
    assert_int_equal(t->s.seg[X86_CS].sel, 0x43);
    assert_int_equal(t->s.seg[X86_SS].sel, 0x3b);
    assert_true(t->s.rflags & FLAG_IF);
    assert_int_equal(x86_cpl(&t->s), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_call_gate_inner, setup, teardown),
        cmocka_unit_test_setup_teardown(test_call_gate_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_call_gate_64, setup, teardown),
        cmocka_unit_test_setup_teardown(test_call_gate_privilege, setup, teardown),
        cmocka_unit_test_setup_teardown(test_far_return_to_compatibility, setup, teardown),
        cmocka_unit_test_setup_teardown(test_iret_to_vm86, setup, teardown),
        cmocka_unit_test_setup_teardown(test_task_call_and_return, setup, teardown),
        cmocka_unit_test_setup_teardown(test_task_fault_in_new_context, setup, teardown),
        cmocka_unit_test_setup_teardown(test_segment_loads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_msr_checks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control_registers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_syscall_and_sysret, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
