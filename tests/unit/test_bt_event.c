/*
 * Events through hand-built tables in each mode, as SDM 3A chapter 6 has them: frames, privilege and
 * stack switches, error codes, escalation.
 */
#include "btvm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "accel/bt/bt_desc.h"
#include "base/endian.h"

enum {
    IDT = 0x50000,
    GDT = 0x51000,
    TSS = 0x52000,
    HANDLER = 0x12000,
    KSTACK = 0x31000,
    IST1 = 0x32000,
    SEL_CODE = 0x08,
    SEL_DATA = 0x10,
    SEL_UCODE = 0x1b,
    SEL_UDATA = 0x23,
    SEL_TSS = 0x28,
    TYPE_INT = 0x8e,
    TYPE_TRAP = 0x8f,
    TYPE_INT16 = 0x86,
    DPL3 = 0x60,
};

static uint8_t *at(struct btvm *t, uint64_t gpa)
{
    return t->ram.hva + gpa;
}

static void gate(struct btvm *t, unsigned vector, uint64_t target, unsigned type, unsigned ist)
{
    unsigned size = t->s.efer & EFER_LMA ? 16 : 8;
    uint8_t *g = at(t, IDT + vector * size);

    st_le64(g, (target & 0xffff) | (uint64_t)SEL_CODE << 16 | (uint64_t)ist << 32 |
                   (uint64_t)type << 40 | (target >> 16 & 0xffff) << 48);
    if (size == 16)
        st_le64(g + 8, target >> 32);
}

static void tables(struct btvm *t, uint64_t code, uint64_t user_code)
{
    st_le64(at(t, GDT + SEL_CODE), code);
    st_le64(at(t, GDT + SEL_DATA), 0x00cf93000000ffff);
    st_le64(at(t, GDT + (SEL_UCODE & ~7)), user_code);
    st_le64(at(t, GDT + (SEL_UDATA & ~7)), 0x00cff3000000ffff);
    t->s.gdtr = (struct x86_dtable){ GDT, 0x7f };
    t->s.idtr = (struct x86_dtable){ IDT, 0xfff };
    t->s.tr = (struct x86_seg){ TSS, 0x67, SEL_TSS, SEG_P | 11 };
    t->s.seg[X86_CS].sel = SEL_CODE;
    t->s.seg[X86_SS].sel = SEL_DATA;
    memcpy(at(t, HANDLER), "\x0f\x0b", 2);
}

static void tables64(struct btvm *t)
{
    btvm_mode64(t);
    tables(t, 0x00af9b000000ffff, 0x00affb000000ffff);
    st_le64(at(t, TSS + 4), KSTACK);
    st_le64(at(t, TSS + 36), IST1);
}

static void tables32(struct btvm *t)
{
    btvm_mode32(t);
    tables(t, 0x00cf9b000000ffff, 0x00cffb000000ffff);
    st_le32(at(t, TSS + 4), KSTACK);
    st_le16(at(t, TSS + 8), SEL_DATA);
}

static void to_user(struct btvm *t, uint64_t code)
{
    struct bt_desc cs = { code, SEL_UCODE }, ss = { 0x00cff3000000ffff, SEL_UDATA };

    t->s.seg[X86_CS] = bt_desc_seg(&cs);
    for (unsigned i = 0; i < X86_NSREGS; i++)
        if (i != X86_CS)
            t->s.seg[i] = bt_desc_seg(&ss);
}

static void load(struct btvm *t)
{
    assert_int_equal(accel_bt.set_state(t->vm->vcpu[0], &t->s), 0);
}

static uint64_t slot(struct btvm *t, unsigned n, unsigned size)
{
    const uint8_t *p = at(t, t->c->s.gpr[X86_RSP] + (uint64_t)n * size);

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

static void test_long_same_privilege(void **state)
{
    struct btvm *t = *state;

    tables64(t);
    gate(t, X86_GP, 0xffff800000012345, TYPE_INT, 0);
    t->s.gpr[X86_RSP] = BTVM_STACK + 5; /* aligned on the way */
    t->s.rflags |= FLAG_IF | FLAG_TF;
    load(t);
    bt_raise_err(t->c, X86_GP, 0x38);
    assert_int_equal(bt_deliver_exception(t->c), 0);
    assert_int_equal(t->c->s.rip, 0xffff800000012345);
    assert_int_equal(t->c->s.gpr[X86_RSP], BTVM_STACK - 48);
    assert_int_equal(slot(t, 0, 8), 0x38);
    assert_int_equal(slot(t, 1, 8), BTVM_CODE);
    assert_int_equal(slot(t, 2, 8), SEL_CODE);
    assert_int_equal(slot(t, 3, 8), FLAG_1 | FLAG_IF | FLAG_TF | FLAG_RF); /* a fault restarts */
    assert_int_equal(slot(t, 4, 8), BTVM_STACK + 5);
    assert_int_equal(slot(t, 5, 8), SEL_DATA);
    assert_int_equal(t->c->s.rflags, FLAG_1);
    assert_int_equal(t->c->s.seg[X86_SS].sel, SEL_DATA); /* unchanged */
}

static void test_long_from_user(void **state)
{
    struct btvm *t = *state;

    tables64(t);
    gate(t, 0x20, HANDLER, TYPE_TRAP, 0);
    to_user(t, 0x00affb000000ffff);
    t->s.rflags |= FLAG_IF;
    load(t);
    assert_int_equal(bt_interrupt(t->c, 0x20, BT_EV_HW, false, 0), 0);
    assert_int_equal(t->c->s.gpr[X86_RSP], KSTACK - 40);
    assert_int_equal(slot(t, 1, 8), SEL_UCODE);
    assert_int_equal(slot(t, 3, 8), BTVM_STACK);
    assert_int_equal(slot(t, 4, 8), SEL_UDATA);
    assert_int_equal(t->c->cpl, 0);
    assert_int_equal(t->c->s.seg[X86_SS].sel, 0);
    assert_true(t->c->s.seg[X86_SS].attr & SEG_UNUSABLE);
    assert_true(t->c->s.rflags & FLAG_IF); /* a trap gate leaves it */
}

static void test_long_ist(void **state)
{
    struct btvm *t = *state;

    tables64(t);
    gate(t, X86_NMI, HANDLER, TYPE_INT, 1);
    load(t);
    assert_int_equal(bt_interrupt(t->c, X86_NMI, BT_EV_HW, false, 0), 0);
    assert_int_equal(t->c->s.gpr[X86_RSP], IST1 - 40);
    assert_int_equal(t->c->s.seg[X86_SS].sel, SEL_DATA);
}

static void test_soft_int_privilege(void **state)
{
    struct btvm *t = *state;

    tables64(t);
    gate(t, 0x80, HANDLER, TYPE_INT, 0);
    to_user(t, 0x00affb000000ffff);
    load(t);
    assert_int_equal(bt_interrupt(t->c, 0x80, BT_EV_SOFT_INT, false, 0), BT_FAULT);
    assert_int_equal(t->c->s.exception_vector, X86_GP);
    assert_int_equal(t->c->s.exception_error, 0x80 * 8 + 2);
    assert_int_equal(bt_interrupt(t->c, 0x80, BT_EV_HW, false, 0), 0);
    load(t);
    gate(t, 0x80, HANDLER, (TYPE_INT | DPL3) & ~0x80u, 0);
    assert_int_equal(bt_interrupt(t->c, 0x80, BT_EV_SOFT_INT, false, 0), BT_FAULT);
    assert_int_equal(t->c->s.exception_vector, X86_NP);
    gate(t, 0x80, HANDLER, TYPE_INT | DPL3, 0);
    assert_int_equal(bt_interrupt(t->c, 0x80, BT_EV_SOFT_INT, false, 0), 0);
}

static void test_ext_bit(void **state)
{
    struct btvm *t = *state;

    tables64(t);
    load(t);
    assert_int_equal(bt_interrupt(t->c, 0x30, BT_EV_HW, false, 0), BT_FAULT); /* an empty gate */
    assert_int_equal(t->c->s.exception_vector, X86_GP);
    assert_int_equal(t->c->s.exception_error, 0x30 * 8 + 2 + 1);
    t->c->s.idtr.limit = 0x30 * 16 - 1;
    assert_int_equal(bt_interrupt(t->c, 0x30, BT_EV_SOFT_INT, false, 0), BT_FAULT);
    assert_int_equal(t->c->s.exception_error, 0x30 * 8 + 2);
}

static void test_escalation(void **state)
{
    struct btvm *t = *state;

    tables64(t);
    gate(t, X86_DF, HANDLER, TYPE_INT, 1);
    load(t);
    bt_raise_err(t->c, X86_GP, 0); /* its gate is empty: #GP in #GP */
    assert_int_equal(bt_deliver_exception(t->c), 0);
    assert_int_equal(t->c->s.rip, HANDLER);
    assert_int_equal(slot(t, 0, 8), 0);
    assert_int_equal(t->c->s.gpr[X86_RSP], IST1 - 48);
    load(t);
    gate(t, X86_GP, HANDLER + 8, TYPE_INT, 0);
    bt_raise(t->c, X86_UD); /* benign: the #GP of its empty gate is delivered itself */
    assert_int_equal(bt_deliver_exception(t->c), 0);
    assert_int_equal(t->c->s.rip, HANDLER + 8);
    assert_int_equal(slot(t, 0, 8), X86_UD * 8 + 2 + 1);
    load(t);
    memset(at(t, IDT), 0, 0x1000);
    bt_raise_pf(t->c, 0x1234, PF_W);
    assert_int_equal(bt_deliver_exception(t->c), BT_EXIT);
    assert_int_equal(t->c->exit, RUN_SHUTDOWN);
}

static void test_protected_inner(void **state)
{
    struct btvm *t = *state;

    tables32(t);
    gate(t, X86_NP, HANDLER, TYPE_INT, 0);
    to_user(t, 0x00cffb000000ffff);
    load(t);
    bt_raise_err(t->c, X86_NP, 0x44);
    assert_int_equal(bt_deliver_exception(t->c), 0);
    assert_int_equal(t->c->s.gpr[X86_RSP], KSTACK - 24);
    assert_int_equal(slot(t, 0, 4), 0x44);
    assert_int_equal(slot(t, 1, 4), BTVM_CODE);
    assert_int_equal(slot(t, 2, 4), SEL_UCODE);
    assert_int_equal(slot(t, 4, 4), BTVM_STACK);
    assert_int_equal(slot(t, 5, 4), SEL_UDATA);
    assert_int_equal(t->c->s.seg[X86_SS].sel, SEL_DATA);
    assert_int_equal(t->c->cpl, 0);
    load(t);
    st_le16(at(t, TSS + 8), SEL_UDATA); /* a stack of the wrong privilege */
    assert_int_equal(bt_interrupt(t->c, X86_NP, BT_EV_EXCEPTION, true, 0), BT_FAULT);
    assert_int_equal(t->c->s.exception_vector, X86_TS);
    assert_int_equal(t->c->s.exception_error, (SEL_UDATA & ~3) | 1);
}

static void test_protected_16_bit_gate(void **state)
{
    struct btvm *t = *state;

    tables32(t);
    gate(t, 0x21, 0x2000, TYPE_INT16, 0);
    load(t);
    assert_int_equal(bt_interrupt(t->c, 0x21, BT_EV_HW, false, 0), 0);
    assert_int_equal(t->c->s.rip, 0x2000);
    assert_int_equal(t->c->s.gpr[X86_RSP], BTVM_STACK - 6);
    assert_int_equal(slot(t, 1, 2), SEL_CODE);
}

static void test_from_vm86(void **state)
{
    struct btvm *t = *state;

    tables32(t);
    gate(t, 0x22, HANDLER, TYPE_INT, 0);
    t->s.rflags |= FLAG_VM | FLAG_IF;
    for (unsigned i = 0; i < X86_NSREGS; i++)
        t->s.seg[i] = bt_seg_real((uint16_t)(0x1000 + i), true);
    t->s.rip = 0x100;
    t->s.gpr[X86_RSP] = 0x200;
    load(t);
    assert_int_equal(bt_interrupt(t->c, 0x22, BT_EV_HW, false, 0), 0);
    assert_int_equal(t->c->s.gpr[X86_RSP], KSTACK - 36);
    assert_int_equal(slot(t, 0, 4), 0x100);
    assert_int_equal(slot(t, 1, 4), 0x1000 + X86_CS);
    assert_int_equal(slot(t, 2, 4), FLAG_1 | FLAG_VM | FLAG_IF);
    assert_int_equal(slot(t, 3, 4), 0x200);
    assert_int_equal(slot(t, 4, 4), 0x1000 + X86_SS);
    assert_int_equal(slot(t, 5, 4), 0x1000 + X86_ES);
    assert_int_equal(slot(t, 8, 4), 0x1000 + X86_GS);
    assert_false(t->c->s.rflags & FLAG_VM);
    assert_true(t->c->s.seg[X86_DS].attr & SEG_UNUSABLE);
    assert_int_equal(t->c->cpl, 0);
}

static void test_real(void **state)
{
    struct btvm *t = *state;

    btvm_mode16(t);
    t->s.idtr = (struct x86_dtable){ 0, 0x3ff };
    st_le32(at(t, 4 * 0x21), 0x20000080); /* 2000:0080 */
    t->s.rflags |= FLAG_IF;
    load(t);
    assert_int_equal(bt_interrupt(t->c, 0x21, BT_EV_SOFT_INT, false, 0), 0);
    assert_int_equal(t->c->s.rip, 0x80);
    assert_int_equal(t->c->s.seg[X86_CS].base, 0x20000);
    assert_int_equal(t->c->s.gpr[X86_RSP], 0x8000 - 6);
    assert_int_equal(ld_le16(at(t, BTVM_CODE + 0x7ffe)), FLAG_1 | FLAG_IF);
    assert_int_equal(ld_le16(at(t, BTVM_CODE + 0x7ffc)), BTVM_CODE >> 4);
    assert_int_equal(t->c->s.rflags & FLAG_IF, 0);
}

static void test_nmi_masking(void **state)
{
    struct btvm *t = *state;

    tables64(t);
    gate(t, X86_NMI, HANDLER, TYPE_INT, 0);
    t->s.nmi_pending = true;
    t->s.shadow_mov_ss = true;
    load(t);
    assert_int_equal(bt_deliver_events(t->c), 0);
    assert_true(t->c->s.nmi_pending); /* held off */
    t->c->s.shadow_mov_ss = false;
    assert_true(bt_event_wakes(t->c));
    assert_int_equal(bt_deliver_events(t->c), 0);
    assert_int_equal(t->c->s.rip, HANDLER);
    assert_true(t->c->s.nmi_masked);
    t->c->s.nmi_pending = true;
    assert_false(bt_event_wakes(t->c));
}

/* INT 0x80 and IRETQ by the interpreter itself. */
static void test_int_and_iret(void **state)
{
    struct btvm *t = *state;

    tables64(t);
    gate(t, 0x80, HANDLER, TYPE_INT | DPL3, 0);
    memcpy(at(t, HANDLER), "\xff\xc3\x48\xcf", 4); /* inc ebx; iretq */
    to_user(t, 0x00affb000000ffff);
    t->s.gpr[X86_RBX] = 1;
    t->s.rflags |= FLAG_IF;
    assert_int_equal(BTVM_RUN(t, 0xcd, 0x80, 0xff, 0xc3), RUN_SHUTDOWN);
    assert_int_equal(t->s.gpr[X86_RBX], 3);
    assert_int_equal(t->s.rip, BTVM_CODE + 4);
    assert_int_equal(t->s.gpr[X86_RSP], BTVM_STACK);
    assert_int_equal(t->s.seg[X86_SS].sel, SEL_UDATA);
    assert_int_equal(t->s.rflags & FLAG_IF, FLAG_IF);
}

/* A single step traps after the instruction, MOV SS holds it back by one. */
static void test_single_step(void **state)
{
    struct btvm *t = *state;

    tables64(t);
    gate(t, X86_DB, HANDLER, TYPE_INT, 0);
    t->s.gpr[X86_RAX] = SEL_DATA;
    BTVM_RUN(t, 0x9c, 0x80, 0x4c, 0x24, 0x01, 0x01, 0x9d, /* pushf; or byte [rsp+1], 1; popf */
             0x8e, 0xd0,                                  /* mov ss, eax */
             0x90, 0x90);
    assert_int_equal(t->s.rip, HANDLER);
    assert_int_equal(ld_le64(at(t, t->s.gpr[X86_RSP])), BTVM_CODE + 10);
    assert_int_equal(t->s.dr6, 0xffff4ff0);
}

static void test_breakpoints(void **state)
{
    struct btvm *t = *state;

    tables64(t);
    gate(t, X86_DB, HANDLER, TYPE_INT, 0);
    t->s.dr[0] = BTVM_DATA + 4;
    t->s.dr7 = 0x400 | 1 | 1 << 16 | 3 << 18; /* writes, 4 bytes */
    t->s.gpr[X86_RBX] = BTVM_DATA;
    BTVM_RUN(t, 0x8b, 0x43, 0x04, 0x89, 0x43, 0x07, 0x90); /* load; store into its last byte */
    assert_int_equal(t->s.rip, HANDLER);
    assert_int_equal(ld_le64(at(t, t->s.gpr[X86_RSP])), BTVM_CODE + 6);
    assert_int_equal(t->s.dr6, 0xffff0ff1);
    tables64(t);
    t->s.dr[1] = BTVM_CODE + 1;
    t->s.dr7 = 0x400 | 8; /* execution */
    BTVM_RUN(t, 0x90, 0x90, 0x90);
    assert_int_equal(t->s.rip, HANDLER);
    assert_int_equal(ld_le64(at(t, t->s.gpr[X86_RSP])), BTVM_CODE + 1);
    assert_int_equal(t->s.dr6, 0xffff0ff2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_long_same_privilege, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_from_user, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_ist, setup, teardown),
        cmocka_unit_test_setup_teardown(test_soft_int_privilege, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ext_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_escalation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_protected_inner, setup, teardown),
        cmocka_unit_test_setup_teardown(test_protected_16_bit_gate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_from_vm86, setup, teardown),
        cmocka_unit_test_setup_teardown(test_real, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nmi_masking, setup, teardown),
        cmocka_unit_test_setup_teardown(test_int_and_iret, setup, teardown),
        cmocka_unit_test_setup_teardown(test_single_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_breakpoints, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
