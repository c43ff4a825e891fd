#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "block/guard.h"
#include "virtio/virtio_blk.h"
#include "rnd.h"
#include "virtio_driver.h"

enum { RAM = 0x200000, RING = 0x10000, HEAD = 0x40000, DATA = 0x50000, STATUS = 0x60000 };
enum { SIZE = 16, DISK = 1 << 20, SLOT = PCI_DEVFN(4, 0), QUEUES = 2 };
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_ZEROES = 13 };
#define F_FLUSH   BIT64(9)
#define F_DISCARD BIT64(13)
#define F_ZEROES  BIT64(14)
#define F_USUAL   (VIRTIO_F_VERSION_1 | F_FLUSH | F_DISCARD | F_ZEROES)
#define NO_STATUS 0xee

struct fixture {
    char path[64];
    struct testvm *t;
    struct pci_bus *bus;
    struct vdrv d;
    struct vring ring[QUEUES];
    struct blk *disk;
    struct blk_ops faulty; /* the disk's, but for submit: all fails */
    struct blk_watcher watcher;
    unsigned stuck, unstuck;
};

static void set_up_disk(struct fixture *f, bool readonly)
{
    struct blk_opts o = { .path = f->path, .readonly = readonly };
    struct blk *disk;
    struct err e = { 0 };

    f->t = testvm_create(RAM);
    f->bus = pci_bus_create(f->t->vm, &e);
    o.loop = f->t->vm->loop;
    disk = blk_open(&o, &e);
    assert_non_null(disk);
    f->disk = disk;
    assert_int_equal(virtio_blk_create(f->bus, SLOT, "disk0", disk, "serial-123", QUEUES, &e), 0);
    f->d = vdrv_find(f->t, f->bus, SLOT);
    for (unsigned i = 0; i < QUEUES; i++)
        f->ring[i] = vring_at(f->t, RING + 0x10000 * i, SIZE);
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    int fd;

    assert_non_null(f);
    snprintf(f->path, sizeof(f->path), "/tmp/ruche-test-vblk-XXXXXX");
    fd = mkstemp(f->path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, DISK), 0);
    close(fd);
    set_up_disk(f, false);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_destroy(f->t);
    unlink(f->path);
    free(f);
    return 0;
}

static void bring_up(struct fixture *f, uint64_t features)
{
    assert_true(vdrv_negotiate(&f->d, features));
    for (uint16_t i = 0; i < QUEUES; i++)
        vdrv_set_queue(&f->d, i, &f->ring[i], 0xffff);
    vdrv_start(&f->d);
}

static uint8_t *ram(struct fixture *f, uint64_t gpa)
{
    return f->t->ram.hva + gpa;
}

static void put_header(struct fixture *f, uint32_t type, uint64_t sector)
{
    st_le32(ram(f, HEAD), type);
    st_le32(ram(f, HEAD + 4), 0);
    st_le64(ram(f, HEAD + 8), sector);
}

/* Header, data, status: three descriptors, as drivers do it. Does not wait. */
static void offer(struct fixture *f, unsigned q, uint32_t type, uint64_t sector, uint32_t len,
                  bool write)
{
    struct vring *r = &f->ring[q];

    put_header(f, type, sector);
    *ram(f, STATUS) = NO_STATUS;
    vring_desc(r, 0, HEAD, 16, VRING_NEXT, len ? 1 : 2);
    vring_desc(r, 1, DATA, len, VRING_NEXT | (write ? 0 : VRING_WRITE), 2);
    vring_desc(r, 2, STATUS, 1, VRING_WRITE, 0);
    vring_offer(r, 0);
    vdrv_kick(&f->d, q);
}

static uint8_t finish(struct fixture *f, unsigned q, uint16_t used)
{
    for (unsigned i = 0; i < 1000 && vring_used_idx(&f->ring[q]) == used; i++)
        loop_poll(f->t->vm->loop, 10);
    assert_int_equal(vring_used_idx(&f->ring[q]), (uint16_t)(used + 1));
    return *ram(f, STATUS);
}

static uint8_t transfer(struct fixture *f, uint32_t type, uint64_t sector, uint32_t len, bool write)
{
    uint16_t used = vring_used_idx(&f->ring[0]);

    offer(f, 0, type, sector, len, write);
    return finish(f, 0, used);
}

static void test_config(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG, 8), DISK / 512);
    assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG + 20, 4), 512);
    assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG + 34, 2), QUEUES);
    assert_int_equal(ld_le16(f->d.pci->cfg + 2), 0x1042);
    assert_int_equal(vdrv_offered(&f->d) & F_USUAL, F_USUAL);
    assert_int_equal(vdrv_offered(&f->d) & BIT64(5), 0);
}

static void test_read_write(void **ctx)
{
    struct fixture *f = *ctx;

    bring_up(f, F_USUAL);
    memset(ram(f, DATA), 0x77, 4096);
    assert_int_equal(transfer(f, T_OUT, 8, 4096, true), 0);
    assert_int_equal(transfer(f, T_FLUSH, 0, 0, true), 0);
    memset(ram(f, DATA), 0, 8192);
    assert_int_equal(transfer(f, T_IN, 4, 8192, false), 0);
    assert_int_equal(*ram(f, DATA + 2047), 0);
    assert_int_equal(*ram(f, DATA + 2048), 0x77);
    assert_int_equal(*ram(f, DATA + 6143), 0x77);
    assert_int_equal(*ram(f, DATA + 6144), 0);
    assert_int_equal(vring_used_len(&f->ring[0], 2), 8193);
    assert_int_equal(vdrv_read(&f->d, VDRV_ISR, 1), 1);
}

/* The header in three pieces, data and status in one buffer: allowed, if unusual. */
static void test_any_layout(void **ctx)
{
    struct fixture *f = *ctx;
    struct vring *r = &f->ring[1];

    bring_up(f, F_USUAL);
    memset(ram(f, DATA), 0x11, 1024);
    put_header(f, T_IN, 0);
    vring_desc(r, 5, HEAD, 3, VRING_NEXT, 6);
    vring_desc(r, 6, HEAD + 3, 10, VRING_NEXT, 7);
    vring_desc(r, 7, HEAD + 13, 3, VRING_NEXT, 8);
    vring_desc(r, 8, DATA, 513, VRING_WRITE, 0);
    vring_offer(r, 5);
    vdrv_kick(&f->d, 1);
    finish(f, 1, 0);
    assert_int_equal(*ram(f, DATA + 511), 0);
    assert_int_equal(*ram(f, DATA + 512), 0); /* the status */
    assert_int_equal(*ram(f, DATA + 513), 0x11);
}

static void test_errors(void **ctx)
{
    struct fixture *f = *ctx;

    bring_up(f, F_USUAL);
    assert_int_equal(transfer(f, T_IN, DISK / 512, 512, false), 1);
    assert_int_equal(transfer(f, T_IN, DISK / 512 - 1, 1024, false), 1);
    assert_int_equal(transfer(f, T_OUT, UINT64_MAX, 512, true), 1);
    assert_int_equal(transfer(f, T_OUT, 1ull << 55, 512, true), 1);
    assert_int_equal(transfer(f, T_IN, 0, 100, false), 1);
    assert_int_equal(transfer(f, T_IN, 0, 0, false), 1);
    assert_int_equal(transfer(f, 99, 0, 512, false), 2);
    assert_int_equal(vdrv_status(&f->d), 15);            /* all of this is a driver's right */
    vring_desc(&f->ring[0], 0, HEAD, 15, VRING_NEXT, 2); /* this is not: no header */
    vring_offer(&f->ring[0], 0);
    vdrv_kick(&f->d, 0);
    assert_int_equal(vdrv_status(&f->d), 15 | VIRTIO_NEEDS_RESET);
}

static void test_get_id(void **ctx)
{
    struct fixture *f = *ctx;

    bring_up(f, F_USUAL);
    memset(ram(f, DATA), 0xff, 32);
    assert_int_equal(transfer(f, T_GET_ID, 0, 20, false), 0);
    assert_string_equal((char *)ram(f, DATA), "serial-123");
    assert_int_equal(*ram(f, DATA + 20), 0xff);
    assert_int_equal(transfer(f, T_GET_ID, 0, 4, false), 0); /* a short buffer */
}

static void put_range(struct fixture *f, uint64_t sector, uint32_t sectors, uint32_t flags)
{
    st_le64(ram(f, DATA), sector);
    st_le32(ram(f, DATA + 8), sectors);
    st_le32(ram(f, DATA + 12), flags);
}

static void test_discard(void **ctx)
{
    struct fixture *f = *ctx;

    bring_up(f, F_USUAL);
    memset(ram(f, DATA), 0x33, 0x8000);
    assert_int_equal(transfer(f, T_OUT, 0, 0x8000, true), 0);
    put_range(f, 16, 16, 0);
    assert_int_equal(transfer(f, T_ZEROES, 0, 16, true), 0);
    put_range(f, 40, 8, 1); /* may unmap */
    assert_int_equal(transfer(f, T_ZEROES, 0, 16, true), 0);
    put_range(f, 48, 8, 0);
    assert_int_equal(transfer(f, T_DISCARD, 0, 16, true), 0);
    assert_int_equal(transfer(f, T_IN, 0, 0x8000, false), 0);
    for (unsigned i = 0; i < 64; i++) {
        bool zero = (i >= 16 && i < 32) || i >= 40;

        assert_int_equal(*ram(f, DATA + 512 * i), zero && i < 56 ? 0 : 0x33);
    }
    put_range(f, DISK / 512 - 1, 2, 0);
    assert_int_equal(transfer(f, T_DISCARD, 0, 16, true), 1);
    put_range(f, 0, 8, 2);
    assert_int_equal(transfer(f, T_DISCARD, 0, 16, true), 2);
    assert_int_equal(transfer(f, T_DISCARD, 0, 15, true), 1);
    f->ring[0] = vring_at(f->t, RING, SIZE);
    f->ring[1] = vring_at(f->t, RING + 0x10000, SIZE);
    bring_up(f, VIRTIO_F_VERSION_1); /* not negotiated */
    put_range(f, 0, 8, 0);
    assert_int_equal(transfer(f, T_DISCARD, 0, 16, true), 2);
}

static void test_readonly(void **ctx)
{
    struct fixture *f = *ctx;

    testvm_destroy(f->t);
    set_up_disk(f, true);
    assert_int_equal(vdrv_offered(&f->d) & (BIT64(5) | F_DISCARD), BIT64(5));
    bring_up(f, VIRTIO_F_VERSION_1 | F_FLUSH);
    assert_int_equal(transfer(f, T_OUT, 0, 512, true), 1);
    assert_int_equal(transfer(f, T_IN, 0, 512, false), 0);
}

/* The driver resets with a flush in flight: the reset completes when the flush has. */
static void test_reset_in_flight(void **ctx)
{
    struct fixture *f = *ctx;

    bring_up(f, F_USUAL);
    offer(f, 0, T_FLUSH, 0, 0, false);
    vdrv_write(&f->d, VDRV_STATUS, 1, 0);
    for (unsigned i = 0; i < 1000 && vdrv_status(&f->d); i++)
        loop_poll(f->t->vm->loop, 10);
    assert_int_equal(vdrv_status(&f->d), 0);
    assert_int_equal(vring_used_idx(&f->ring[0]), 0);
    bring_up(f, F_USUAL);
}

static void test_quiesce(void **ctx)
{
    struct fixture *f = *ctx;
    struct state s;

    bring_up(f, F_USUAL);
    offer(f, 0, T_IN, 0, 4096, false);
    offer(f, 1, T_IN, 0, 4096, false);
    device_quiesce_all(f->t->vm->devices); /* nothing is in flight afterwards: it can be saved */
    assert_int_equal(vring_used_idx(&f->ring[0]), 1);
    assert_int_equal(vring_used_idx(&f->ring[1]), 1);
    state_init_save(&s);
    device_state(&f->d.pci->dev, &s);
    assert_int_equal(state_error(&s), 0);
    state_fini(&s);
    device_sync_all(f->t->vm->devices);
    assert_int_equal(transfer(f, T_IN, 0, 512, false), 0);
}

static void faulty_submit(struct blk *b, struct blk_req *r)
{
    (void)b;
    blk_done_later(r, -ENOSPC);
}

static void on_stuck(struct blk_watcher *w, const char *why)
{
    (void)why;
    container_of(w, struct fixture, watcher)->stuck++;
}

static void on_unstuck(struct blk_watcher *w)
{
    container_of(w, struct fixture, watcher)->unstuck++;
}

static void break_disk(struct fixture *f, const struct blk_ops **works)
{
    struct err e = { 0 };

    f->watcher = (struct blk_watcher){ on_stuck, on_unstuck };
    assert_int_equal(blk_guard_add(f->disk, "disk", BLK_ON_ERROR_ENOSPC, &f->watcher, &e), 0);
    *works = f->disk->ops;
    f->faulty = *f->disk->ops;
    f->faulty.submit = faulty_submit;
    f->disk->ops = &f->faulty;
}

/* A write finds no space; the VM is saved in that state, and loaded where there is some. */
static void test_undone_is_saved(void **ctx)
{
    struct fixture *f = *ctx;
    const struct blk_ops *works;
    struct state save, load;

    bring_up(f, F_USUAL);
    break_disk(f, &works);
    memset(ram(f, DATA), 0x44, 4096);
    offer(f, 1, T_OUT, 8, 4096, true);
    while (!f->stuck)
        loop_poll(f->t->vm->loop, 10);
    device_quiesce_all(f->t->vm->devices);
    assert_int_equal(f->unstuck, 1);
    assert_int_equal(*ram(f, STATUS), NO_STATUS);
    state_init_save(&save);
    device_state(&f->d.pci->dev, &save);
    assert_int_equal(state_error(&save), 0);
    f->disk->ops = works;
    state_init_load(&load, save.buf, save.len);
    device_state(&f->d.pci->dev, &load);
    assert_int_equal(state_error(&load), 0);
    device_sync_all(f->t->vm->devices);
    assert_int_equal(finish(f, 1, 0), 0);
    assert_int_equal(transfer(f, T_IN, 8, 4096, false), 0);
    assert_int_equal(*ram(f, DATA), 0x44);
    state_fini(&save);
    state_fini(&load);
}

static void test_undone_goes_on(void **ctx)
{
    struct fixture *f = *ctx;
    const struct blk_ops *works;

    bring_up(f, F_USUAL);
    break_disk(f, &works);
    offer(f, 0, T_OUT, 8, 4096, true);
    while (!f->stuck)
        loop_poll(f->t->vm->loop, 10);
    device_quiesce_all(f->t->vm->devices); /* paused ... */
    f->disk->ops = works;
    device_sync_all(f->t->vm->devices); /* ... and on */
    assert_int_equal(finish(f, 0, 0), 0);
    assert_int_equal(f->stuck, 1);
}

/* The driver switches the disk's write cache off and on (5.2.6.2). */
static void test_write_cache(void **ctx)
{
    struct fixture *f = *ctx;
    enum { WRITEBACK = VDRV_CONFIG + 32 };

    bring_up(f, F_USUAL | BIT64(11));
    assert_int_equal(vdrv_read(&f->d, WRITEBACK, 1), 1);
    vdrv_write(&f->d, WRITEBACK, 1, 0);
    assert_int_equal(vdrv_read(&f->d, WRITEBACK, 1), 0);
    assert_int_equal(transfer(f, T_OUT, 0, 512, true), 0);
    vdrv_write(&f->d, VDRV_CONFIG, 4, 1); /* the capacity is none of its business */
    assert_int_equal(vdrv_read(&f->d, VDRV_CONFIG, 8), DISK / 512);
    vdrv_write(&f->d, VDRV_STATUS, 1, 0);
    assert_int_equal(vdrv_read(&f->d, WRITEBACK, 1), 1);
}

static void test_hostile(void **ctx)
{
    struct fixture *f = *ctx;
    uint64_t seed = 3;

    for (unsigned round = 0; round < 300; round++) {
        struct vring *r = &f->ring[0];

        *r = vring_at(f->t, RING, SIZE);
        bring_up(f, F_USUAL);
        for (unsigned i = 0; i < SIZE; i++) {
            rnd_next(&seed);
            put_header(f, seed >> 40 & 15, seed >> 44 & 0xfff);
            vring_desc(r, i, HEAD + (seed >> 20 & 0xff) * 256, seed >> 28 & 0x3ff, seed >> 38 & 3,
                       (unsigned)(seed >> 60));
            vring_offer(r, (uint16_t)i);
        }
        vdrv_kick(&f->d, 0);
        vdrv_write(&f->d, VDRV_STATUS, 1, 0);
        while (vdrv_status(&f->d))
            loop_poll(f->t->vm->loop, 10);
    }
    f->ring[0] = vring_at(f->t, RING, SIZE);
    bring_up(f, F_USUAL);
    assert_int_equal(transfer(f, T_IN, 0, 512, false), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_config, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_read_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_any_layout, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_errors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_get_id, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_discard, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_readonly, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reset_in_flight, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_quiesce, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_undone_is_saved, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_undone_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_write_cache, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hostile, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
