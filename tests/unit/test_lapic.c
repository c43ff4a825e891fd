#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/endian.h"
#include "hw/lapic.h"
#include "testvm.h"
#include "x86/msr.h"

enum {
    ID = 0x20,
    TPR = 0x80,
    PPR = 0xa0,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SVR = 0xf0,
    ISR = 0x100,
    TMR = 0x180,
    IRR = 0x200,
    ESR = 0x280,
    ICR = 0x300,
    ICR2 = 0x310,
    LVTT = 0x320,
    LINT0 = 0x350,
    LINT1 = 0x360,
    LVTERR = 0x370,
    TMICT = 0x380,
    TMCCT = 0x390,
    TDCR = 0x3e0,
};
enum { NCPUS = 4 };

/* A VM with vCPUs that have an APIC but no accelerator: requests stay in c->req. */
struct fixture {
    struct testvm *t;
    struct vcpu cpu[NCPUS];
    int eois, eoi_vector;
    int pic_vector; /* what the fake 8259 answers */
};
static struct fixture *the_fixture; /* vm->eoi and vm->inta have no other way to find it */

static void fixture_eoi(struct vm *vm, uint8_t vector)
{
    (void)vm;
    the_fixture->eois++;
    the_fixture->eoi_vector = vector;
}

static int fixture_inta(struct vm *vm)
{
    lapic_irqchip.intr(vm, false);
    return the_fixture->pic_vector;
}

static int setup(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err e = { 0 };

    assert_non_null(f);
    the_fixture = f;
    f->t = testvm_create(0);
    f->t->vm->irqchip = &lapic_irqchip;
    f->t->vm->eoi = fixture_eoi;
    f->t->vm->inta = fixture_inta;
    for (unsigned i = 0; i < NCPUS; i++) {
        struct vcpu *c = &f->cpu[i];

        c->vm = f->t->vm;
        c->index = c->apic_id = i;
        pthread_mutex_init(&c->lock, NULL);
        pthread_cond_init(&c->cond, NULL);
        f->t->vm->vcpu[i] = c;
        c->lapic = lapic_create(c, &e);
        assert_non_null(c->lapic);
        lapic_mmio_write(c->lapic, SVR, 0x1ff);
        c->wake = false;
    }
    f->t->vm->nvcpus = NCPUS;
    *ctx = f;
    return 0;
}

static int teardown(void **ctx)
{
    struct fixture *f = *ctx;

    f->t->vm->nvcpus = 0;
    for (unsigned i = 0; i < NCPUS; i++) {
        lapic_destroy(f->cpu[i].lapic);
        pthread_cond_destroy(&f->cpu[i].cond);
        pthread_mutex_destroy(&f->cpu[i].lock);
    }
    testvm_destroy(f->t);
    free(f);
    return 0;
}

static void msi(struct fixture *f, uint32_t dest, uint32_t data)
{
    lapic_irqchip.msi(f->t->vm, 0xfee00000 | dest << 12, data);
}

static void x2apic(struct lapic *l)
{
    uint64_t base;

    assert_true(lapic_msr_read(l, MSR_APIC_BASE, &base));
    assert_true(lapic_msr_write(l, MSR_APIC_BASE, base | APIC_BASE_X2APIC));
}

static void test_priorities(void **ctx)
{
    struct fixture *f = *ctx;
    struct lapic *l = f->cpu[0].lapic;

    msi(f, 0, 0x41);
    assert_true(f->cpu[0].wake);
    msi(f, 0, 0x61);
    msi(f, 0, 0x65);
    assert_true(lapic_pending(l));
    assert_int_equal(lapic_ack(l), 0x65);
    assert_int_equal(lapic_mmio_read(l, PPR), 0x60);
    assert_int_equal(lapic_ack(l), -1); /* 0x61 is of the same class */
    lapic_mmio_write(l, EOI, 0);
    assert_int_equal(lapic_ack(l), 0x61);
    lapic_mmio_write(l, EOI, 0);
    lapic_tpr_set(l, 4);
    assert_false(lapic_pending(l));
    lapic_mmio_write(l, TPR, 0x3f);
    assert_int_equal(lapic_tpr_get(l), 3);
    assert_int_equal(lapic_ack(l), 0x41);
    assert_int_equal(f->eois, 0);
}

static void test_level_eoi(void **ctx)
{
    struct fixture *f = *ctx;
    struct lapic *l = f->cpu[1].lapic;

    msi(f, 1, 0x31 | BIT(15) | BIT(14));
    assert_int_equal(lapic_mmio_read(l, TMR + 0x10), BIT(0x11));
    assert_int_equal(lapic_ack(l), 0x31);
    lapic_mmio_write(l, EOI, 0);
    assert_int_equal(f->eois, 1);
    assert_int_equal(f->eoi_vector, 0x31);
    lapic_mmio_write(l, EOI, 0); /* nothing in service */
    assert_int_equal(f->eois, 1);
}

static void test_destinations(void **ctx)
{
    struct fixture *f = *ctx;

    for (unsigned i = 0; i < NCPUS; i++)
        lapic_mmio_write(f->cpu[i].lapic, LDR, BIT(24 + i));
    lapic_irqchip.msi(f->t->vm, 0xfee00000 | 0x6 << 12 | BIT(2), 0x50); /* logical, flat */
    for (unsigned i = 0; i < NCPUS; i++)
        assert_int_equal(lapic_ack(f->cpu[i].lapic), i == 1 || i == 2 ? 0x50 : -1);
    msi(f, 0xff, 0x71); /* broadcast */
    for (unsigned i = 0; i < NCPUS; i++)
        assert_int_equal(lapic_ack(f->cpu[i].lapic), 0x71);
    msi(f, 77, 0x90);                          /* nobody */
    lapic_mmio_write(f->cpu[3].lapic, DFR, 0); /* cluster: 1:1 */
    lapic_mmio_write(f->cpu[3].lapic, LDR, 0x11u << 24);
    lapic_irqchip.msi(f->t->vm, 0xfee00000 | 0x13 << 12 | BIT(2), 0xa0);
    assert_int_equal(lapic_ack(f->cpu[3].lapic), 0xa0);
}

static void test_lowest(void **ctx)
{
    struct fixture *f = *ctx;

    for (unsigned i = 0; i < NCPUS; i++) {
        lapic_mmio_write(f->cpu[i].lapic, LDR, BIT(24 + i));
        lapic_mmio_write(f->cpu[i].lapic, TPR, i == 2 ? 0x10 : 0x20);
    }
    lapic_irqchip.msi(f->t->vm, 0xfee00000 | 0xf << 12 | BIT(2), 1 << 8 | 0x50);
    for (unsigned i = 0; i < NCPUS; i++)
        assert_int_equal(lapic_ack(f->cpu[i].lapic), i == 2 ? 0x50 : -1);
}

static void test_ipi(void **ctx)
{
    struct fixture *f = *ctx;
    struct lapic *l = f->cpu[0].lapic;

    lapic_mmio_write(l, ICR2, 2u << 24);
    lapic_mmio_write(l, ICR, 0x4500); /* INIT, assert */
    assert_int_equal(f->cpu[2].req, VCPU_REQ_INIT);
    lapic_mmio_write(l, ICR, 0x8500); /* level de-assert: nothing */
    lapic_mmio_write(l, ICR, 0x4699); /* SIPI */
    assert_int_equal(f->cpu[2].req, VCPU_REQ_INIT | VCPU_REQ_SIPI);
    assert_int_equal(f->cpu[2].sipi_vector, 0x99);
    lapic_mmio_write(l, ICR, 0xc4400); /* NMI to all others */
    assert_int_equal(f->cpu[0].req, 0);
    assert_int_equal(f->cpu[1].req, VCPU_REQ_NMI);
    lapic_mmio_write(l, ICR, 0x44055); /* self */
    assert_int_equal(lapic_ack(l), 0x55);
    lapic_mmio_write(l, ICR, 0x80066); /* all */
    for (unsigned i = 0; i < NCPUS; i++)
        assert_int_equal(lapic_ack(f->cpu[i].lapic), 0x66);
}

static void test_errors(void **ctx)
{
    struct fixture *f = *ctx;
    struct lapic *l = f->cpu[0].lapic;

    lapic_mmio_write(l, LVTERR, 0xef);
    lapic_mmio_write(l, ICR, 0x44005);
    assert_int_equal(lapic_ack(l), 0xef);
    lapic_mmio_write(l, ESR, 0);
    assert_int_equal(lapic_mmio_read(l, ESR), 0x60);
    lapic_mmio_read(l, 0x10);
    assert_int_equal(lapic_mmio_read(l, ESR), 0x60);
    lapic_mmio_write(l, ESR, 0);
    assert_int_equal(lapic_mmio_read(l, ESR), 0x80);
}

static void test_software_disable(void **ctx)
{
    struct fixture *f = *ctx;
    struct lapic *l = f->cpu[0].lapic;

    lapic_mmio_write(l, LINT1, 0x400);
    lapic_mmio_write(l, SVR, 0xff);
    assert_int_equal(lapic_mmio_read(l, LINT1), 0x10400);
    lapic_mmio_write(l, LINT1, 0x400);
    assert_int_equal(lapic_mmio_read(l, LINT1), 0x10400);
    msi(f, 0, 0x80);
    assert_false(lapic_pending(l));
    lapic_mmio_write(l, SVR, 0x1ff);
    assert_int_equal(lapic_ack(l), -1);
}

static void test_extint(void **ctx)
{
    struct fixture *f = *ctx;
    struct lapic *l = f->cpu[0].lapic;

    f->pic_vector = 0x20;
    lapic_mmio_write(l, LINT0, 0x700);
    lapic_irqchip.intr(f->t->vm, true);
    assert_true(lapic_pending(l));
    assert_int_equal(lapic_ack(l), 0x20);
    assert_false(lapic_pending(l));
    lapic_mmio_write(l, LINT0, 0x10700);
    lapic_irqchip.intr(f->t->vm, true);
    assert_false(lapic_pending(l));
    lapic_irqchip.intr(f->t->vm, false);
    lapic_mmio_write(l, LINT0, 0x31); /* fixed, on the edge */
    lapic_irqchip.intr(f->t->vm, true);
    assert_int_equal(lapic_ack(l), 0x31);
    lapic_irqchip.intr(f->t->vm, false);
    lapic_reset(l); /* virtual wire mode at power-on */
    lapic_irqchip.intr(f->t->vm, true);
    assert_int_equal(lapic_ack(l), 0x20);
}

static void test_nmi(void **ctx)
{
    struct fixture *f = *ctx;

    lapic_irqchip.nmi(f->t->vm, &f->cpu[0]);
    assert_int_equal(f->cpu[0].req, 0); /* LINT1 is masked */
    lapic_mmio_write(f->cpu[0].lapic, LINT1, 0x400);
    lapic_irqchip.nmi(f->t->vm, &f->cpu[0]);
    assert_int_equal(f->cpu[0].req, VCPU_REQ_NMI);
}

static void test_timer(void **ctx)
{
    struct fixture *f = *ctx;
    struct lapic *l = f->cpu[0].lapic;
    struct clock *clock = f->t->vm->clock;

    lapic_mmio_write(l, TDCR, 0x3); /* by 16 */
    lapic_mmio_write(l, LVTT, 0x40);
    lapic_mmio_write(l, TMICT, 100000);
    clock_advance(clock, 800000);
    assert_int_equal(lapic_mmio_read(l, TMCCT), 50000);
    assert_false(lapic_pending(l));
    clock_advance(clock, 800000);
    assert_int_equal(lapic_ack(l), 0x40);
    assert_int_equal(lapic_mmio_read(l, TMCCT), 0);
    lapic_mmio_write(l, EOI, 0);
    clock_advance(clock, 10000000);
    assert_false(lapic_pending(l));

    lapic_mmio_write(l, LVTT, 0x20041); /* periodic */
    lapic_mmio_write(l, TMICT, 100000);
    for (int i = 0; i < 5; i++) {
        clock_advance(clock, 1600000);
        assert_int_equal(lapic_ack(l), 0x41);
        lapic_mmio_write(l, EOI, 0);
    }
    lapic_mmio_write(l, TMICT, 0);
    clock_advance(clock, 10000000);
    assert_false(lapic_pending(l));
}

static void test_deadline(void **ctx)
{
    struct fixture *f = *ctx;
    struct lapic *l = f->cpu[0].lapic;
    struct clock *clock = f->t->vm->clock;
    uint64_t ms = clock_tsc_khz(clock), val;

    assert_true(lapic_msr_write(l, MSR_TSC_DEADLINE, 5)); /* another mode: ignored */
    lapic_mmio_write(l, LVTT, 0x40042);
    assert_true(lapic_msr_write(l, MSR_TSC_DEADLINE, clock_tsc(clock) + 2 * ms));
    clock_advance(clock, 1900000);
    assert_false(lapic_pending(l));
    assert_true(lapic_msr_read(l, MSR_TSC_DEADLINE, &val));
    assert_int_not_equal(val, 0);
    clock_advance(clock, 110000);
    assert_int_equal(lapic_ack(l), 0x42);
    assert_true(lapic_msr_read(l, MSR_TSC_DEADLINE, &val));
    assert_int_equal(val, 0);
    lapic_mmio_write(l, EOI, 0);
    assert_true(lapic_msr_write(l, MSR_TSC_DEADLINE, 1)); /* past: at once */
    assert_int_equal(lapic_ack(l), 0x42);
    lapic_mmio_write(l, EOI, 0);
    assert_true(lapic_msr_write(l, MSR_TSC_DEADLINE, clock_tsc(clock) + ms));
    lapic_mmio_write(l, LVTT, 0x42); /* a change of mode disarms */
    clock_advance(clock, 9000000);
    assert_false(lapic_pending(l));
}

static void test_x2apic(void **ctx)
{
    struct fixture *f = *ctx;
    struct lapic *l = f->cpu[3].lapic;
    uint64_t val;

    assert_false(lapic_msr_read(l, MSR_X2APIC + 2, &val)); /* xAPIC mode */
    for (unsigned i = 0; i < NCPUS; i++)
        x2apic(f->cpu[i].lapic);
    assert_false(lapic_mmio_base(l, &val));
    assert_true(lapic_msr_read(l, MSR_X2APIC + 2, &val));
    assert_int_equal(val, 3);
    assert_true(lapic_msr_read(l, MSR_X2APIC + 0xd, &val));
    assert_int_equal(val, BIT(3));
    assert_false(lapic_msr_write(l, MSR_X2APIC + 0xd, 1));    /* LDR is read-only */
    assert_false(lapic_msr_read(l, MSR_X2APIC + 0xe, &val));  /* no DFR */
    assert_false(lapic_msr_read(l, MSR_X2APIC + 0x31, &val)); /* no ICR2 */
    assert_false(lapic_msr_write(l, MSR_X2APIC + 0xb, 1));
    assert_false(lapic_msr_write(l, MSR_X2APIC + 8, 0x100));
    assert_true(lapic_msr_write(l, MSR_X2APIC + 0x3f, 0x77)); /* self IPI */
    assert_int_equal(lapic_ack(l), 0x77);
    assert_true(lapic_msr_write(l, MSR_X2APIC + 0xb, 0));
    assert_true(lapic_msr_write(l, MSR_X2APIC + 0x30, 1ull << 32 | 0x4030)); /* physical 1 */
    assert_int_equal(lapic_ack(f->cpu[1].lapic), 0x30);
    assert_true(lapic_msr_read(l, MSR_X2APIC + 0x30, &val));
    assert_int_equal(val, 1ull << 32 | 0x4030);
    assert_true(lapic_msr_write(l, MSR_X2APIC + 0x30, 0x4ull << 32 | 0x4850)); /* logical: cpu 2 */
    assert_int_equal(lapic_ack(f->cpu[2].lapic), 0x50);
    assert_true(lapic_msr_write(l, MSR_X2APIC + 0x30, 0xffffffffull << 32 | 0x4090)); /* all */
    assert_int_equal(lapic_ack(f->cpu[0].lapic), 0x90);
    assert_int_equal(lapic_ack(l), 0x90);
}

static void test_base(void **ctx)
{
    struct fixture *f = *ctx;
    struct lapic *l = f->cpu[0].lapic;
    uint64_t base, gpa;

    assert_true(lapic_msr_read(l, MSR_APIC_BASE, &base));
    assert_int_equal(base, 0xfee00900);
    assert_false(lapic_msr_write(l, MSR_APIC_BASE, base | 1));
    assert_false(lapic_msr_write(l, MSR_APIC_BASE, 0xfee00500)); /* x2APIC without enable */
    assert_true(lapic_msr_write(l, MSR_APIC_BASE, 0xfee00d00));
    assert_false(lapic_msr_write(l, MSR_APIC_BASE, 0xfee00900)); /* no way straight back */
    assert_true(lapic_msr_write(l, MSR_APIC_BASE, 0xfee00100));
    assert_false(lapic_mmio_base(l, &gpa));
    assert_false(lapic_msr_write(l, MSR_APIC_BASE, 0xfee00d00)); /* off to x2APIC */
    assert_true(lapic_msr_write(l, MSR_APIC_BASE, 0xfed10900));
    assert_true(lapic_mmio_base(l, &gpa));
    assert_int_equal(gpa, 0xfed10000);
    assert_int_equal(lapic_mmio_read(l, SVR), 0xff); /* it was reset */
}

static void test_save_load(void **ctx)
{
    struct fixture *f = *ctx;
    struct lapic *l = f->cpu[1].lapic;
    struct x86_state *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));

    assert_non_null(a);
    assert_non_null(b);
    lapic_mmio_write(l, TDCR, 0xb);
    lapic_mmio_write(l, LVTT, 0x20041);
    lapic_mmio_write(l, TMICT, 1000000);
    clock_advance(f->t->vm->clock, 300000);
    msi(f, 1, 0x55);
    msi(f, 1, 0x65);
    lapic_ack(l);
    lapic_tpr_set(l, 2);
    lapic_save(l, a);
    assert_int_equal(ld_le32(a->lapic + ID), 1 << 24);
    assert_int_equal(ld_le32(a->lapic + TMCCT), 700000);
    lapic_reset(l);
    assert_false(lapic_pending(l));
    lapic_load(l, a);
    lapic_save(l, b);
    assert_memory_equal(a, b, sizeof(*a));
    lapic_mmio_write(l, EOI, 0);
    assert_int_equal(lapic_ack(l), 0x55);
    lapic_mmio_write(l, EOI, 0);
    clock_advance(f->t->vm->clock, 700000);
    assert_int_equal(lapic_ack(l), 0x41);
    free(a);
    free(b);
}

/* Whatever a guest writes, nothing crashes, and what is saved can be loaded again. */
static void test_fuzz(void **ctx)
{
    struct fixture *f = *ctx;
    struct x86_state *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));
    unsigned seed = 1;

    assert_non_null(a);
    assert_non_null(b);
    for (int i = 0; i < 200000; i++) {
        struct lapic *l = f->cpu[rand_r(&seed) % NCPUS].lapic;
        uint32_t r = (uint32_t)rand_r(&seed), val = (uint32_t)rand_r(&seed) << (r & 7);
        uint64_t out;

        if (r & 0x100)
            lapic_mmio_write(l, r >> 12 & 0xfff, val);
        else if (r & 0x200)
            (void)lapic_msr_write(l, MSR_X2APIC + (r >> 12 & 0xff), val & 0xc50ff);
        else if (r & 0x400)
            lapic_mmio_read(l, r >> 12 & 0xfff);
        else
            (void)lapic_msr_read(l, MSR_X2APIC + (r >> 12 & 0xff), &out);
        if (i % 1000 == 0 && !lapic_msr_write(l, MSR_APIC_BASE, val))
            (void)lapic_msr_write(l, MSR_APIC_BASE, 0xfee00800 | (r & 0x400));
        if (lapic_pending(l))
            lapic_ack(l);
        if (i % 500 == 0) {
            clock_advance(f->t->vm->clock, val);
            lapic_save(l, a);
            lapic_load(l, a);
            lapic_save(l, b);
            assert_memory_equal(a, b, sizeof(*a));
        }
    }
    free(a);
    free(b);
}

/* A sleeping vCPU does not wait for the loop thread, which never runs here. */
static void test_own_wait(void **ctx)
{
    struct fixture *f = *ctx;
    struct vm *vm = f->t->vm;
    struct clock *manual = vm->clock;
    struct vcpu cpu = { .vm = vm, .lock = PTHREAD_MUTEX_INITIALIZER };
    struct err e = { 0 };
    struct loop *loop = loop_create(&e);
    struct lapic *l;

    assert_non_null(loop);
    vm->clock = clock_create(loop, &e);
    assert_non_null(vm->clock);
    l = cpu.lapic = lapic_create(&cpu, &e);
    lapic_mmio_write(l, SVR, 0x1ff);
    lapic_mmio_write(l, LVTT, 0x31);
    assert_true(lapic_timer_host_ns(l) == 0); /* not armed */
    clock_start(vm->clock);
    lapic_mmio_write(l, TMICT, 1000);
    assert_true(lapic_timer_host_ns(l) != 0);
    while (util_monotonic_ns() < lapic_timer_host_ns(l)) {
        lapic_timer_check(l);
        assert_true(!lapic_pending(l) || util_monotonic_ns() >= lapic_timer_host_ns(l));
    }
    lapic_timer_check(l);
    assert_true(lapic_pending(l));
    assert_true(lapic_timer_host_ns(l) == 0);
    assert_int_equal(lapic_ack(l), 0x31);
    lapic_timer_check(l);
    loop_poll(loop, 0); /* nothing is left for it */
    assert_false(lapic_pending(l));
    clock_stop(vm->clock);
    lapic_destroy(l);
    clock_destroy(vm->clock);
    loop_destroy(loop);
    vm->clock = manual;
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_priorities),
        TEST(test_level_eoi),
        TEST(test_destinations),
        TEST(test_lowest),
        TEST(test_ipi),
        TEST(test_errors),
        TEST(test_software_disable),
        TEST(test_extint),
        TEST(test_nmi),
        TEST(test_own_wait),
        TEST(test_timer),
        TEST(test_deadline),
        TEST(test_x2apic),
        TEST(test_base),
        TEST(test_save_load),
        TEST(test_fuzz),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
