#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/endian.h"
#include "bus/pci.h"
#include "diskfile.h"
#include "hw/nvme.h"
#include "rnd.h"
#include "testvm.h"

/* The driver is this file: offsets and numbers are the specification's. */
enum { RAM = 4 << 20, DISK = 4 << 20, BLOCKS = DISK / 512, QUEUE = 16 };
enum { ADMIN = 0x10000, IO = 0x20000, CQ = 0x4000, LIST = 0x30000, DATA = 0x100000 };
enum { R_VS = 0x08, R_CC = 0x14, R_CSTS = 0x1c, R_AQA = 0x24, R_ASQ = 0x28, R_ACQ = 0x30 };
enum { BAD_OPCODE = 0x4001, BAD_FIELD = 0x4002, OUT_OF_RANGE = 0x4080, PROTECTED = 0x4020 };

struct queue {
    uint64_t base;
    uint16_t tail, head, phase;
};
struct fixture {
    struct testvm *t;
    struct diskfile file;
    struct pci_dev *pci;
    uint64_t bar;
    struct queue q[2];
    uint16_t cid;
};
struct command {
    uint8_t op;
    uint32_t nsid;
    uint64_t prp1, prp2;
    uint32_t cdw10, cdw11, cdw12;
};

static uint8_t *ram(struct fixture *f, uint64_t gpa)
{
    return f->t->ram.hva + gpa;
}

static uint32_t get(struct fixture *f, unsigned reg)
{
    return (uint32_t)testvm_read(f->t, f->bar + reg, 4);
}

static void put(struct fixture *f, unsigned reg, uint64_t val, unsigned size)
{
    testvm_write(f->t, f->bar + reg, size, val);
}

static void submit(struct fixture *f, unsigned qid, const struct command *c)
{
    struct queue *q = &f->q[qid];
    uint8_t *sqe = ram(f, q->base + 64 * (uint64_t)q->tail);

    memset(sqe, 0, 64);
    sqe[0] = c->op;
    st_le16(sqe + 2, ++f->cid);
    st_le32(sqe + 4, c->nsid);
    st_le64(sqe + 24, c->prp1);
    st_le64(sqe + 32, c->prp2);
    st_le32(sqe + 40, c->cdw10);
    st_le32(sqe + 44, c->cdw11);
    st_le32(sqe + 48, c->cdw12);
    q->tail = (uint16_t)((q->tail + 1) % QUEUE);
    put(f, 0x1000 + 8 * qid, q->tail, 4);
}

/* The next completion's status, and in *result what else it says. */
static unsigned reap(struct fixture *f, unsigned qid, uint32_t *result)
{
    struct queue *q = &f->q[qid];
    const uint8_t *cqe = ram(f, q->base + CQ + 16 * (uint64_t)q->head);

    for (unsigned i = 0; i < 200 && (ld_le16(cqe + 14) & 1) != q->phase; i++)
        loop_poll(f->t->vm->loop, 10);
    assert_int_equal(ld_le16(cqe + 14) & 1, q->phase);
    if (result)
        *result = ld_le32(cqe);
    q->head = (uint16_t)((q->head + 1) % QUEUE);
    q->phase ^= !q->head;
    put(f, 0x1004 + 8 * qid, q->head, 4);
    return ld_le16(cqe + 14) >> 1;
}

static unsigned run(struct fixture *f, unsigned qid, struct command c)
{
    submit(f, qid, &c);
    return reap(f, qid, NULL);
}

static unsigned transfer(struct fixture *f, bool write, uint64_t lba, unsigned blocks,
                         uint64_t prp1, uint64_t prp2)
{
    return run(f, 1,
               (struct command){ write ? 1 : 2, 1, prp1, prp2, (uint32_t)lba, 0, blocks - 1 });
}

static void enable(struct fixture *f)
{
    f->q[0] = (struct queue){ .base = ADMIN, .phase = 1 };
    f->q[1] = (struct queue){ .base = IO, .phase = 1 };
    memset(ram(f, ADMIN), 0, 0x20000);
    put(f, R_AQA, (QUEUE - 1) << 16 | (QUEUE - 1), 4);
    put(f, R_ASQ, ADMIN, 8);
    put(f, R_ACQ, ADMIN + CQ, 8);
    put(f, R_CC, 0x460001, 4);
    assert_int_equal(get(f, R_CSTS), 1);
    assert_int_equal(
        run(f, 0, (struct command){ 5, 0, IO + CQ, 0, (QUEUE - 1) << 16 | 1, 1 << 16 | 3, 0 }), 0);
    assert_int_equal(
        run(f, 0, (struct command){ 1, 0, IO, 0, (QUEUE - 1) << 16 | 1, 1 << 16 | 1, 0 }), 0);
}

static int set_up_disk(void **ctx, bool readonly)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err e = { 0 };
    struct pci_bus *bus;

    assert_non_null(f);
    f->t = testvm_create(RAM);
    bus = pci_bus_create(f->t->vm, &e);
    diskfile_open(&f->file, f->t->vm->loop, DISK, readonly);
    assert_int_equal(nvme_create(bus, PCI_DEVFN(3, 0), "nvme0", f->file.disk, "serial-1", 2, &e),
                     0);
    assert_int_equal(pci_assign(bus, 0xc0000000, 0x10000000, 0xc000, 4 * GIB, &e), 0);
    f->pci = pci_bus_at(bus, PCI_DEVFN(3, 0));
    f->pci->cfg[PCI_COMMAND] |= PCI_CMD_MASTER;
    f->bar = f->pci->bar[0].mapped_at;
    enable(f);
    *ctx = f;
    return 0;
}

static int set_up(void **ctx)
{
    return set_up_disk(ctx, false);
}

static int set_up_readonly(void **ctx)
{
    return set_up_disk(ctx, true);
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_destroy(f->t);
    free(f);
    return 0;
}

/* --- tests --- */

static void test_identify(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(get(f, R_VS), 0x10400);
    assert_int_equal(run(f, 0, (struct command){ .op = 6, .prp1 = DATA, .cdw10 = 1 }), 0);
    assert_memory_equal(ram(f, DATA + 4), "serial-1            ", 20);
    assert_int_equal(ld_le32(ram(f, DATA + 516)), 1);
    assert_int_equal(run(f, 0, (struct command){ .op = 6, .nsid = 1, .prp1 = DATA }), 0);
    assert_int_equal(ld_le64(ram(f, DATA)), BLOCKS);
    assert_int_equal(run(f, 0, (struct command){ .op = 6, .prp1 = DATA, .cdw10 = 2 }), 0);
    assert_int_equal(ld_le32(ram(f, DATA)), 1);
    assert_int_equal(run(f, 0, (struct command){ .op = 6, .nsid = 7, .prp1 = DATA }), 0x400b);
    assert_int_equal(run(f, 0, (struct command){ .op = 6, .prp1 = DATA, .cdw10 = 0x77 }),
                     BAD_FIELD);
    assert_int_equal(run(f, 0, (struct command){ .op = 0x7f }), BAD_OPCODE);
}

static void test_read_write(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(transfer(f, false, 8, 8, DATA + 512, DATA + 0x3000), 0); /* two pages */
    assert_disk(ram(f, DATA + 512), 4096, 3584);
    assert_disk(ram(f, DATA + 0x3000), 4096 + 3584, 512);
    memset(ram(f, DATA), 0x5a, 4096);
    assert_int_equal(transfer(f, true, 100, 8, DATA, 0), 0);
    memset(ram(f, DATA), 0, 4096);
    assert_int_equal(transfer(f, false, 100, 8, DATA, 0), 0);
    assert_int_equal(*ram(f, DATA + 4095), 0x5a);
    assert_int_equal(run(f, 1, (struct command){ .op = 0, .nsid = 1 }), 0);
    assert_int_equal(run(f, 1, (struct command){ .op = 8, .nsid = 1, .cdw10 = 100, .cdw12 = 7 }),
                     0);
    assert_int_equal(transfer(f, false, 100, 8, DATA, 0), 0);
    assert_int_equal(*ram(f, DATA + 4095), 0);
}

/* A list that goes on in a second one: 512 KiB from the end of a list page on. */
static void test_prp_lists(void **ctx)
{
    struct fixture *f = *ctx;
    uint64_t list = LIST + 0xff0; /* one entry, and the way to the next */

    st_le64(ram(f, list), DATA + 0x2000);
    st_le64(ram(f, list + 8), LIST + 0x1000);
    for (unsigned i = 0; i < 126; i++)
        st_le64(ram(f, LIST + 0x1000 + 8 * (uint64_t)i), DATA + 0x3000 + 0x1000 * (uint64_t)i);
    assert_int_equal(transfer(f, false, 0, 1024, DATA + 0x1000, list), 0);
    assert_disk(ram(f, DATA + 0x1000), 0, 512 << 10);
    st_le64(ram(f, LIST + 0x1000 + 80), 0xffffff000ull); /* no memory */
    assert_int_equal(transfer(f, false, 0, 1024, DATA + 0x1000, list), 0x4004);
    st_le64(ram(f, LIST + 0x1000 + 80), DATA + 8); /* misaligned */
    assert_int_equal(transfer(f, false, 0, 1024, DATA + 0x1000, list), 0x4013);
    st_le64(ram(f, LIST + 0xff8), LIST + 0xff8); /* a list of itself */
    assert_int_equal(transfer(f, false, 0, 1024, DATA + 0x1000, LIST + 0xff8), 0x4013);
}

static void test_ends(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(transfer(f, false, BLOCKS - 1, 1, DATA, 0), 0);
    assert_int_equal(transfer(f, false, BLOCKS - 1, 2, DATA, 0), OUT_OF_RANGE);
    assert_int_equal(transfer(f, false, 0, 4096, DATA, LIST), BAD_FIELD); /* more than MDTS */
    assert_int_equal(run(f, 1, (struct command){ .op = 2, .nsid = 2, .prp1 = DATA }), 0x400b);
    assert_int_equal(run(f, 1, (struct command){ .op = 0x55, .nsid = 1 }), BAD_OPCODE);
}

static void test_deallocate(void **ctx)
{
    struct fixture *f = *ctx;

    st_le32(ram(f, DATA + 4), 8);
    st_le64(ram(f, DATA + 8), 16);
    st_le32(ram(f, DATA + 20), 8);
    st_le64(ram(f, DATA + 24), 2048);
    assert_int_equal(run(f, 1, (struct command){ 9, 1, DATA, 0, 1, 4, 0 }), 0);
    st_le64(ram(f, DATA + 24), BLOCKS);
    assert_int_equal(run(f, 1, (struct command){ 9, 1, DATA, 0, 1, 4, 0 }), OUT_OF_RANGE);
}

/* More than the completion queue holds; it waits until the driver has looked. */
static void test_full_queue(void **ctx)
{
    struct fixture *f = *ctx;

    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < QUEUE - 1; i++)
            submit(f, 1, &(struct command){ 2, 1, DATA + 0x1000 * (uint64_t)i, 0, i, 0, 0 });
        for (unsigned i = 0; i < QUEUE - 1; i++)
            assert_int_equal(reap(f, 1, NULL), 0);
        for (unsigned i = 0; i < QUEUE - 1; i++)
            assert_disk(ram(f, DATA + 0x1000 * (uint64_t)i), 512 * (uint64_t)i, 512);
    }
}

static void test_host_errors(void **ctx)
{
    struct fixture *f = *ctx;

    diskfile_break(&f->file, diskfile_broken);
    assert_int_equal(transfer(f, false, 0, 1, DATA, 0), 0x281);
    assert_int_equal(transfer(f, true, 0, 1, DATA, 0), 0x280);
    diskfile_break(&f->file, diskfile_full);
    assert_int_equal(transfer(f, true, 0, 1, DATA, 0), 0x081);
    diskfile_break(&f->file, NULL);
    assert_int_equal(run(f, 0, (struct command){ 2, UINT32_MAX, DATA, 0, 127 << 16 | 2, 0, 0 }), 0);
    assert_int_equal(ld_le64(ram(f, DATA + 160)), 3);
    assert_int_equal(run(f, 0, (struct command){ 2, UINT32_MAX, DATA, 0, 15 << 16 | 1, 0, 0 }), 0);
    assert_int_equal(ld_le16(ram(f, DATA + 12)) >> 1, 0x081);
}

static void test_readonly(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(run(f, 0, (struct command){ .op = 6, .nsid = 1, .prp1 = DATA }), 0);
    assert_int_equal(*ram(f, DATA + 99), 1);
    assert_int_equal(transfer(f, true, 0, 1, DATA, 0), PROTECTED);
    assert_int_equal(transfer(f, false, 0, 1, DATA, 0), 0);
}

static void test_features_and_events(void **ctx)
{
    struct fixture *f = *ctx;
    uint32_t result;

    submit(f, 0, &(struct command){ .op = 9, .cdw10 = 7, .cdw11 = 0x00070007 });
    assert_int_equal(reap(f, 0, &result), 0);
    assert_int_equal(result, 0x00010001);
    assert_int_equal(run(f, 0, (struct command){ .op = 9, .cdw10 = 6, .cdw11 = 0 }), 0);
    submit(f, 0, &(struct command){ .op = 10, .cdw10 = 6 });
    assert_int_equal(reap(f, 0, &result), 0);
    assert_int_equal(result, 0);
    for (unsigned i = 0; i < 4; i++)
        submit(f, 0, &(struct command){ .op = 12 });
    assert_int_equal(run(f, 0, (struct command){ .op = 12 }), 0x4105);
    put(f, 0x1000 + 8 * 9, 1, 4); /* a doorbell of no queue */
    assert_int_equal(reap(f, 0, &result), 0);
    assert_int_equal(result, 0x010000);
    assert_int_equal(run(f, 0, (struct command){ .op = 8, .cdw10 = 1 }), 0);
}

static void test_delete_queues(void **ctx)
{
    struct fixture *f = *ctx;

    submit(f, 1, &(struct command){ 2, 1, DATA, 0, 0, 0, 0 });
    assert_int_equal(run(f, 0, (struct command){ .op = 4, .cdw10 = 1 }), 0x410c); /* in use */
    assert_int_equal(run(f, 0, (struct command){ .op = 0, .cdw10 = 1 }), 0);
    assert_int_equal(reap(f, 1, NULL), 0); /* what was in flight came first */
    assert_int_equal(run(f, 0, (struct command){ .op = 4, .cdw10 = 1 }), 0);
    assert_int_equal(run(f, 0, (struct command){ .op = 0, .cdw10 = 1 }), 0x4101);
}

static void test_reset_in_flight(void **ctx)
{
    struct fixture *f = *ctx;

    submit(f, 1, &(struct command){ 2, 1, DATA, 0, 0, 0, 0 });
    put(f, R_CC, 0, 4);
    for (unsigned i = 0; i < 100 && (get(f, R_CSTS) & 1); i++)
        loop_poll(f->t->vm->loop, 10);
    assert_int_equal(get(f, R_CSTS), 0);
    enable(f);
    assert_int_equal(transfer(f, false, 8, 8, DATA, 0), 0);
    assert_disk(ram(f, DATA), 4096, 4096);
    put(f, R_CC, 0, 4);
    put(f, R_ASQ, 123, 8);
    put(f, R_CC, 0x460001, 4);
    assert_int_equal(get(f, R_CSTS), 2);
}

/* The host could not yet do it when the VM was saved: it is done after the load. */
static void test_undone_is_saved(void **ctx)
{
    struct fixture *f = *ctx;
    struct state save, load;

    diskfile_break(&f->file, diskfile_undone);
    submit(f, 1, &(struct command){ 2, 1, DATA, 0, 8, 0, 7 });
    device_quiesce_all(f->t->vm->devices);
    state_init_save(&save);
    device_state(&f->pci->dev, &save);
    assert_int_equal(state_error(&save), 0);
    diskfile_break(&f->file, NULL);
    state_init_load(&load, save.buf, save.len);
    device_state(&f->pci->dev, &load);
    assert_int_equal(state_error(&load), 0);
    device_sync_all(f->t->vm->devices);
    assert_int_equal(reap(f, 1, NULL), 0);
    assert_disk(ram(f, DATA), 4096, 4096);
    state_fini(&save);
    state_fini(&load);
}

static void test_msix(void **ctx)
{
    struct fixture *f = *ctx;
    uint64_t table = f->pci->bar[4].mapped_at;
    unsigned before;

    testvm_write(f->t, table + 16, 8, 0xfee00000);
    testvm_write(f->t, table + 24, 4, 0x41);
    testvm_write(f->t, table + 28, 4, 0);
    f->pci->cfg[f->pci->msix.cap + 3] |= 0x80;
    before = f->t->n_msi;
    assert_int_equal(transfer(f, false, 0, 1, DATA, 0), 0);
    assert_int_equal(f->t->n_msi, before + 1);
    assert_int_equal(f->t->msi_data, 0x41);
}

static void test_hostile(void **ctx)
{
    struct fixture *f = *ctx;
    uint64_t seed = 5;

    for (unsigned i = 0; i < 60000; i++) {
        uint32_t r = (uint32_t)(rnd_next(&seed) >> 32), x = (uint32_t)(seed >> 16);

        if ((r & 7) == 0)
            put(f, r >> 8 & 0x3c, x, 4);
        else if ((r & 7) == 1)
            put(f, 0x1000 + (r >> 8 & 0x3c), x & 31, 4);
        else if ((r & 7) < 5)
            st_le32(ram(f, (r & 64 ? ADMIN : IO) + (r >> 8 & 0x3fc)), x & (r & 128 ? 7 : ~0u));
        else
            submit(f, r >> 4 & 1,
                   &(struct command){ (uint8_t)(x & 15), x >> 4 & 1, DATA, LIST, x >> 5, 4,
                                      x >> 8 & 63 });
        if (i % 16 == 0)
            loop_poll(f->t->vm->loop, 0);
    }
    device_quiesce_all(f->t->vm->devices);
    put(f, R_CC, 0, 4);
    enable(f);
    assert_int_equal(transfer(f, false, 0, 1, DATA, 0), 0);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_identify),
        TEST(test_read_write),
        TEST(test_prp_lists),
        TEST(test_ends),
        TEST(test_deallocate),
        TEST(test_full_queue),
        TEST(test_host_errors),
        cmocka_unit_test_setup_teardown(test_readonly, set_up_readonly, tear_down),
        TEST(test_features_and_events),
        TEST(test_delete_queues),
        TEST(test_reset_in_flight),
        TEST(test_undone_is_saved),
        TEST(test_msix),
        TEST(test_hostile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
