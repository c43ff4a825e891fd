#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "state/state.h"
#include "x86/msr.h"
#include "x86/regs.h"

static struct x86_state *fresh(void)
{
    struct x86_state *s = aligned_alloc(64, sizeof(*s));

    assert_non_null(s);
    x86_state_reset(s, 0, true);
    return s;
}

static int io(struct x86_state *from, struct x86_state *to)
{
    struct state out, in;
    int err;

    state_init_save(&out);
    x86_state_io(from, &out, "cpu0");
    state_init_load(&in, out.buf, out.len);
    if (state_error(&out) == 0)
        x86_state_io(to, &in, "cpu0");
    err = state_error(&out) ? state_error(&out) : state_error(&in);
    state_fini(&out);
    return err;
}

static void test_reset_values(void **ctx)
{
    struct x86_state *s = fresh();

    (void)ctx;
    assert_int_equal(s->rip, 0xfff0);
    assert_int_equal(s->rflags, 2);
    assert_int_equal(s->seg[X86_CS].sel, 0xf000);
    assert_int_equal(s->seg[X86_CS].base, 0xffff0000);
    assert_int_equal(s->seg[X86_CS].attr, 0x9b);
    assert_int_equal(s->seg[X86_DS].attr, 0x93);
    assert_int_equal(s->cr0, 0x60000010);
    assert_int_equal(s->dr6, 0xffff0ff0);
    assert_int_equal(s->dr7, 0x400);
    assert_int_equal(s->apic_base, 0xfee00900);
    assert_int_equal(s->mp_state, X86_MP_RUNNING);
    x86_state_reset(s, 3, false);
    assert_int_equal(s->apic_base, 0xfee00800);
    assert_int_equal(s->mp_state, X86_MP_WAIT_SIPI);
    assert_int_equal(s->lapic[0x23], 3);
    free(s);
}

static void test_init_keeps(void **ctx)
{
    struct x86_state *s = fresh();

    (void)ctx;
    s->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE;
    s->cr4 = CR4_PAE;
    s->efer = EFER_LME | EFER_LMA;
    s->lstar = 0x1234;
    s->tsc_adjust = 77;
    s->xcr0 = 7;
    s->mtrr_def_type = 0xc06;
    s->gpr[X86_RBX] = 5;
    s->xsave[100] = 9;
    x86_state_init(s, 1, false);
    assert_int_equal(s->cr0, CR0_ET);
    assert_int_equal(s->cr4, 0);
    assert_int_equal(s->efer, 0);
    assert_int_equal(s->gpr[X86_RBX], 0);
    assert_int_equal(s->lstar, 0x1234);
    assert_int_equal(s->tsc_adjust, 77);
    assert_int_equal(s->xcr0, 7);
    assert_int_equal(s->mtrr_def_type, 0xc06);
    assert_int_equal(s->xsave[100], 9);
    assert_int_equal(s->mp_state, X86_MP_WAIT_SIPI);
    free(s);
}

/* Every byte that a field covers must come back. */
static void test_round_trip(void **ctx)
{
    struct x86_state *a = fresh(), *b = fresh();

    (void)ctx;
    for (unsigned i = 0; i < 16; i++)
        a->gpr[i] = 0x1111111111111111ull * i;
    a->cr0 = CR0_PE | CR0_PG | CR0_ET;
    a->cr4 = CR4_PAE | CR4_PCIDE;
    a->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    a->seg[X86_FS].base = 0xffff888000000000ull;
    a->tr = (struct x86_seg){ 0xfffffe0000003000ull, 0x67, 0x40, 0x8b };
    a->interrupt_pending = a->shadow_sti = a->nmi_masked = true;
    a->interrupt_vector = 0xec;
    a->kvm_steal_time = 0x1001;
    a->mtrr_var[7][1] = 0xff000800;
    a->lapic[1023] = 1;
    a->xsave[X86_XSAVE_SIZE - 1] = 2;
    assert_int_equal(io(a, b), 0);
    assert_memory_equal(a->gpr, b->gpr, sizeof(a->gpr));
    assert_memory_equal(a->seg, b->seg, sizeof(a->seg));
    assert_memory_equal(a->lapic, b->lapic, sizeof(a->lapic));
    assert_memory_equal(a->xsave, b->xsave, sizeof(a->xsave));
    assert_int_equal(a->efer, b->efer);
    assert_int_equal(a->tr.base, b->tr.base);
    assert_true(b->interrupt_pending && b->shadow_sti && b->nmi_masked);
    assert_int_equal(b->mtrr_var[7][1], 0xff000800);
    assert_int_equal(b->kvm_steal_time, 0x1001);
    free(a);
    free(b);
}

static void test_refuses_impossible(void **ctx)
{
    struct x86_state *a = fresh(), *b = fresh();

    (void)ctx;
    a->cr0 = CR0_PG | CR0_ET; /* paging without protection */
    assert_int_equal(io(a, b), -EINVAL);
    x86_state_reset(a, 0, true);
    a->efer = EFER_LMA;
    assert_int_equal(io(a, b), -EINVAL);
    x86_state_reset(a, 0, true);
    a->seg[X86_GS].base = 0x8000000000000000ull;
    assert_int_equal(io(a, b), -EINVAL);
    x86_state_reset(a, 0, true);
    a->xcr0 = 4; /* AVX without SSE */
    assert_int_equal(io(a, b), -EINVAL);
    x86_state_reset(a, 0, true);
    a->pat = 2;
    assert_int_equal(io(a, b), -EINVAL);
    x86_state_reset(a, 0, true);
    a->xsave[520] = 1; /* compacted format */
    assert_int_equal(io(a, b), -EINVAL);
    x86_state_reset(a, 0, true);
    a->mp_state = 17;
    assert_int_equal(io(a, b), -EINVAL);
    x86_state_reset(a, 0, true);
    assert_int_equal(io(a, b), 0);
    free(a);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reset_values),
        cmocka_unit_test(test_init_keeps),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refuses_impossible),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
