#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "diskfile.h"
#include "virtio/virtio_scsi.h"
#include "virtio_driver.h"

enum { RAM = 0x200000, RING = 0x10000, HEAD = 0x40000, DATA = 0x50000, REPLY = 0x80000 };
enum { SIZE = 16, DISK = 1 << 20, SLOT = PCI_DEVFN(4, 0), QUEUES = 3, CONTROL = 0, REQUEST = 2 };
enum {
    OK = 0,
    OVERRUN = 1,
    BAD_TARGET = 3,
    FAILURE = 9,
    SUCCEEDED = 10,
    REJECTED = 11,
    BAD_LUN = 12
};

struct fixture {
    struct testvm *t;
    struct diskfile disk, cd;
    struct vdrv d;
    struct vring ring[QUEUES];
};

static uint8_t *ram(struct fixture *f, uint64_t gpa)
{
    return f->t->ram.hva + gpa;
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err e = { 0 };
    struct pci_bus *bus;

    assert_non_null(f);
    f->t = testvm_create(RAM);
    bus = pci_bus_create(f->t->vm, &e);
    diskfile_open(&f->disk, f->t->vm->loop, DISK, false);
    diskfile_open(&f->cd, f->t->vm->loop, DISK, true);
    const struct virtio_scsi_media media[2] = { { f->disk.disk, false, "serial-1" },
                                                { f->cd.disk, true, NULL } };
    assert_int_equal(virtio_scsi_create(bus, SLOT, "scsi0", media, 2, 1, &e), 0);
    f->d = vdrv_find(f->t, bus, SLOT);
    for (unsigned i = 0; i < QUEUES; i++)
        f->ring[i] = vring_at(f->t, RING + 0x8000 * (uint64_t)i, SIZE);
    assert_true(vdrv_negotiate(&f->d, VIRTIO_F_VERSION_1));
    for (uint16_t i = 0; i < QUEUES; i++)
        vdrv_set_queue(&f->d, i, &f->ring[i], 0xffff);
    vdrv_start(&f->d);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_destroy(f->t);
    free(f);
    return 0;
}

/* Command n (0 to 3) of target: len bytes of data, to the disk or from there. */
static void offer(struct fixture *f, unsigned n, unsigned target, const uint8_t *cdb, bool write,
                  uint32_t len)
{
    struct vring *r = &f->ring[REQUEST];
    uint64_t head = HEAD + 0x100 * (uint64_t)n, reply = REPLY + 0x100 * (uint64_t)n;
    unsigned at = 4 * n;

    memset(ram(f, head), 0, 51);
    *ram(f, head) = 1;
    *ram(f, head + 1) = (uint8_t)target;
    *ram(f, head + 2) = 0x40;
    st_le64(ram(f, head + 8), 100 + n);
    memcpy(ram(f, head + 19), cdb, 16);
    memset(ram(f, reply), 0xee, 108);
    vring_desc(r, at, head, 51, VRING_NEXT, write ? at + 1 : at + 2);
    vring_desc(r, at + 1, DATA, len, VRING_NEXT, at + 2);
    vring_desc(r, at + 2, reply, 108, VRING_WRITE | (write || !len ? 0 : VRING_NEXT), at + 3);
    vring_desc(r, at + 3, DATA, len, VRING_WRITE, 0);
    vring_offer(r, (uint16_t)at);
    vdrv_kick(&f->d, REQUEST);
}

static void wait_used(struct fixture *f, unsigned queue, uint16_t n)
{
    for (unsigned i = 0; i < 200 && vring_used_idx(&f->ring[queue]) != n; i++)
        loop_poll(f->t->vm->loop, 10);
    assert_int_equal(vring_used_idx(&f->ring[queue]), n);
}

/* Response << 8 | status. */
static unsigned run(struct fixture *f, unsigned target, const uint8_t *cdb, bool write,
                    uint32_t len)
{
    uint16_t used = vring_used_idx(&f->ring[REQUEST]);

    offer(f, 0, target, cdb, write, len);
    wait_used(f, REQUEST, (uint16_t)(used + 1));
    return (unsigned)*ram(f, REPLY + 11) << 8 | *ram(f, REPLY + 10);
}

static void offer_tmf(struct fixture *f, uint32_t what, unsigned target, uint64_t id)
{
    struct vring *r = &f->ring[CONTROL];
    uint8_t *head = ram(f, HEAD + 0x1000);

    memset(head, 0, 24);
    st_le32(head + 4, what);
    head[8] = 1;
    head[9] = (uint8_t)target;
    st_le64(head + 16, id);
    *ram(f, REPLY + 0x1000) = 0xee;
    vring_desc(r, 0, HEAD + 0x1000, 24, VRING_NEXT, 1);
    vring_desc(r, 1, REPLY + 0x1000, 1, VRING_WRITE, 0);
    vring_offer(r, 0);
    vdrv_kick(&f->d, CONTROL);
}

static uint8_t tmf(struct fixture *f, uint32_t what, unsigned target, uint64_t id)
{
    uint16_t used = vring_used_idx(&f->ring[CONTROL]);

    offer_tmf(f, what, target, id);
    wait_used(f, CONTROL, (uint16_t)(used + 1));
    return *ram(f, REPLY + 0x1000);
}

static const uint8_t read8[16] = { 0x28, 0, 0, 0, 0, 8, 0, 0, 8 };
static const uint8_t write8[16] = { 0x2a, 0, 0, 0, 0, 8, 0, 0, 8 };
static const uint8_t ready[16] = { 0 };

static void test_commands(void **ctx)
{
    static const uint8_t inquiry[16] = { 0x12, 0, 0, 0, 255 }, cd[16] = { 0x28, [8] = 2 };
    struct fixture *f = *ctx;

    assert_int_equal(run(f, 0, inquiry, false, 255), OK);
    assert_int_equal(ld_le32(ram(f, REPLY + 4)), 255 - 36); /* left over */
    assert_memory_equal(ram(f, DATA + 8), "RUCHE", 5);
    assert_int_equal(run(f, 0, read8, false, 4096), OK);
    assert_disk(ram(f, DATA), 4096, 4096);
    memset(ram(f, DATA), 0x77, 4096);
    assert_int_equal(run(f, 0, write8, true, 4096), OK);
    memset(ram(f, DATA), 0, 4096);
    assert_int_equal(run(f, 0, read8, false, 4096), OK);
    assert_int_equal(*ram(f, DATA + 4095), 0x77);
    assert_int_equal(run(f, 1, cd, false, 4096), OK);
    assert_disk(ram(f, DATA), 0, 4096);
}

static void test_failures(void **ctx)
{
    static const uint8_t far[16] = { 0x28, 0, 0, 0xff, 0, 0, 0, 0, 8 };
    struct fixture *f = *ctx;

    assert_int_equal(run(f, 0, far, false, 4096), 2);
    assert_int_equal(ld_le32(ram(f, REPLY)), 18);
    assert_int_equal(*ram(f, REPLY + 12 + 2), 5);
    assert_int_equal(*ram(f, REPLY + 12 + 12), 0x21);
    assert_int_equal(run(f, 0, read8, false, 1024), OVERRUN << 8);
    assert_int_equal(run(f, 2, ready, false, 0), BAD_TARGET << 8);
    diskfile_break(&f->disk, diskfile_broken);
    assert_int_equal(run(f, 0, read8, false, 4096), 2);
    assert_int_equal(*ram(f, REPLY + 12 + 2), 3);
    diskfile_break(&f->disk, diskfile_undone);
    assert_int_equal(run(f, 0, read8, false, 4096), 8); /* busy */
}

static void test_several(void **ctx)
{
    struct fixture *f = *ctx;

    for (unsigned i = 0; i < 4; i++)
        offer(f, i, 0, read8, false, 4096);
    wait_used(f, REQUEST, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(*ram(f, REPLY + 0x100 * (uint64_t)i + 10), 0);
}

static void test_task_management(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(tmf(f, 6, 0, 100), OK); /* no such task */
    assert_int_equal(tmf(f, 0, 0, 100), OK);
    assert_int_equal(tmf(f, 5, 9, 0), BAD_LUN);
    assert_int_equal(tmf(f, 99, 0, 0), REJECTED);
    offer(f, 0, 0, read8, false, 4096);
    assert_int_equal(tmf(f, 6, 0, 100), SUCCEEDED);
    assert_int_equal(tmf(f, 6, 0, 101), OK);
    wait_used(f, REQUEST, 1);
    offer(f, 1, 0, read8, false, 4096);
    offer_tmf(f, 5, 0, 0); /* a reset of the unit: after what is in flight */
    wait_used(f, REQUEST, 2);
    wait_used(f, CONTROL, 7);
    assert_int_equal(*ram(f, REPLY + 0x1000), OK);
    assert_int_equal(run(f, 0, ready, false, 0), 2); /* hears of it */
    assert_int_equal(*ram(f, REPLY + 12 + 12), 0x29);
    assert_int_equal(run(f, 0, ready, false, 0), OK);
}

static void test_reset_in_flight(void **ctx)
{
    struct fixture *f = *ctx;

    offer(f, 0, 0, read8, false, 4096);
    offer_tmf(f, 5, 0, 0);
    vdrv_write(&f->d, VDRV_STATUS, 1, 0);
    for (unsigned i = 0; i < 200 && vdrv_status(&f->d); i++)
        loop_poll(f->t->vm->loop, 10);
    assert_int_equal(vdrv_status(&f->d), 0);
}

static void test_malformed(void **ctx)
{
    struct fixture *f = *ctx;
    struct vring *r = &f->ring[REQUEST];

    vring_desc(r, 0, HEAD, 20, VRING_NEXT, 1); /* a short header */
    vring_desc(r, 1, REPLY, 108, VRING_WRITE, 0);
    vring_offer(r, 0);
    vdrv_kick(&f->d, REQUEST);
    assert_int_equal(vdrv_status(&f->d) & VIRTIO_NEEDS_RESET, VIRTIO_NEEDS_RESET);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_commands),        TEST(test_failures),        TEST(test_several),
        TEST(test_task_management), TEST(test_reset_in_flight), TEST(test_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
