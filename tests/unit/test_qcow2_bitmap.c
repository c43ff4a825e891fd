#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "block/qcow2_bitmap.h"
#include "qcow2_rig.h"

enum { GRAIN = 64 * KIB };

static void edit(struct blk *b, enum blk_bitmap_what what, const char *name, uint64_t grain,
                 const char *from)
{
    struct blk_bitmap o = { what, name, grain, NULL, from };
    struct err e = { 0 };

    if (b->ops->bitmap(b, &o, &e))
        fail_msg("%s", e.msg);
}

/* How many bits of a bitmap in the file are set; -1: it is marked as in use; -2: there is none. */
static int64_t count(struct fixture *f, const char *name)
{
    struct blk_opts o = { .path = f->path, .readonly = true, .share = true };
    struct blk *b = blk_open(&o, NULL);
    struct qcow2_bitmaps list;
    int64_t n = -2;

    assert_non_null(b);
    assert_int_equal(qcow2_bitmap_dir_load(qcow2_of(b), &list), 0);
    for (uint32_t i = 0; i < list.n; i++) {
        struct qcow2_bitmap *m = &list.v[i];

        if (strcmp(m->name, name))
            continue;
        assert_true(qcow2_bitmap_sound(qcow2_of(b), m));
        assert_int_equal(qcow2_bitmap_load(qcow2_of(b), m), 0);
        n = m->flags & QCOW2_BITMAP_IN_USE ? -1 : 0;
        for (uint64_t bit = 0; n >= 0 && bit < m->n; bit++)
            n += bitmap_test(m->bits, bit);
    }
    qcow2_bitmap_dir_unload(&list);
    blk_close(b);
    return n;
}

static void test_records(void **ctx)
{
    struct fixture *f = *ctx;
    uint8_t buf[512] = { 1 };
    struct blk *b;

    rig_create(f, DISK, NULL, NULL);
    b = rig_open_disk(f);
    edit(b, BLK_BITMAP_ADD, "b", 0, NULL);
    edit(b, BLK_BITMAP_ADD, "fine", 512, NULL);
    edit(b, BLK_BITMAP_ADD, "off", GRAIN, NULL);
    edit(b, BLK_BITMAP_DISABLE, "off", 0, NULL);
    assert_int_equal(count(f, "b"), -1); /* marked while we may write */
    assert_int_equal(count(f, "off"), 0);
    assert_int_equal(blk_write_sync(b, 70000 / 512 * 512, buf, 512), 0);
    assert_int_equal(blk_op_sync(b, BLK_WRITE_ZEROES, MIB - 512, 1024, 0), 0);
    assert_int_equal(blk_op_sync(b, BLK_DISCARD, DISK - 1024, 1024, 0), 0);
    blk_close(b);
    assert_int_equal(count(f, "b"), 4);
    assert_int_equal(count(f, "fine"), 5);
    assert_int_equal(count(f, "off"), 0);
    rig_judge(f);

    b = rig_open_disk(f); /* loaded again, and more */
    assert_int_equal(blk_write_sync(b, 0, buf, 512), 0);
    rig_self_check(b);
    blk_close(b);
    assert_int_equal(count(f, "b"), 5);
    rig_judge(f);

    b = rig_open_disk(f);
    edit(b, BLK_BITMAP_MERGE, "off", 0, "fine");
    edit(b, BLK_BITMAP_CLEAR, "b", 0, NULL);
    edit(b, BLK_BITMAP_REMOVE, "fine", 0, NULL);
    rig_self_check(b);
    blk_close(b);
    assert_int_equal(count(f, "off"), 5);
    assert_int_equal(count(f, "b"), 0);
    assert_int_equal(count(f, "fine"), -2);
    rig_judge(f);

    b = rig_open_disk(f);
    edit(b, BLK_BITMAP_ENABLE, "off", 0, NULL);
    assert_int_equal(blk_op_sync(b, BLK_WRITE_ZEROES, 0, DISK, 0), 0); /* all ones */
    blk_close(b);
    assert_int_equal(count(f, "b"), (DISK + GRAIN - 1) / GRAIN);
    assert_int_equal(count(f, "off"), (DISK + GRAIN - 1) / GRAIN);
    rig_judge(f);
    b = rig_open_disk(f);
    edit(b, BLK_BITMAP_REMOVE, "off", 0, NULL);
    edit(b, BLK_BITMAP_REMOVE, "b", 0, NULL);
    rig_self_check(b);
    blk_close(b);
    assert_int_equal(count(f, "b"), -2);
    rig_judge(f);
}

static void test_refuses(void **ctx)
{
    const struct {
        struct blk_bitmap o;
        int code;
    } wrong[] = {
        { { BLK_BITMAP_ADD, "", 0, NULL, NULL }, EINVAL },
        { { BLK_BITMAP_ADD, "b", 0, NULL, NULL }, EEXIST },
        { { BLK_BITMAP_ADD, "c", 256, NULL, NULL }, EINVAL },
        { { BLK_BITMAP_ADD, "c", 3000, NULL, NULL }, EINVAL },
        { { BLK_BITMAP_REMOVE, "c", 0, NULL, NULL }, ENOENT },
        { { BLK_BITMAP_MERGE, "b", 0, NULL, "c" }, ENOENT },
    };
    const char *options[] = { "compat=0.10", NULL };
    struct fixture *f = *ctx;
    struct blk *b;

    rig_create(f, DISK, NULL, NULL);
    b = rig_open_disk(f);
    edit(b, BLK_BITMAP_ADD, "b", 0, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        struct err e = { 0 };

        assert_int_equal(b->ops->bitmap(b, &wrong[i].o, &e), -wrong[i].code);
    }
    blk_close(b);
    rig_create(f, DISK, options, NULL);
    b = rig_open_disk(f);
    assert_int_equal(b->ops->bitmap(b, &(struct blk_bitmap){ .name = "b" }, NULL), -ENOTSUP);
    blk_close(b);
}

/* What was not closed is inconsistent from then on, and can only be removed. */
static void test_inconsistent(void **ctx)
{
    struct blk_bitmap clear = { .what = BLK_BITMAP_CLEAR, .name = "b" };
    struct fixture *f = *ctx;
    struct err e = { 0 };
    char command[256];
    struct blk *b;

    rig_create(f, DISK, NULL, NULL);
    b = rig_open_disk(f);
    edit(b, BLK_BITMAP_ADD, "b", 0, NULL);
    blk_drain(b);
    snprintf(command, sizeof(command), "cp %s %s", f->path, f->base);
    assert_int_equal(rig_run_command("%s", command), 0);
    blk_close(b);
    assert_int_equal(count(f, "b"), 0);
    assert_int_equal(rename(f->base, f->path), 0);
    rig_judge(f);
    b = rig_open_disk(f);
    assert_int_equal(b->ops->bitmap(b, &clear, &e), -EINVAL);
    assert_int_equal(blk_op_sync(b, BLK_WRITE_ZEROES, 0, MIB, 0), 0);
    edit(b, BLK_BITMAP_ADD, "c", 0, NULL);
    blk_close(b);
    assert_int_equal(count(f, "b"), -1);
    assert_int_equal(count(f, "c"), 0);
    b = rig_open_disk(f);
    edit(b, BLK_BITMAP_REMOVE, "b", 0, NULL);
    blk_close(b);
    assert_int_equal(count(f, "b"), -2);
    rig_judge(f);
}

/* Sizes and snapshots change the disk as a whole. */
static void test_sizes(void **ctx)
{
    struct fixture *f = *ctx;
    struct err e = { 0 };
    struct blk *b;

    rig_create(f, DISK, NULL, NULL);
    b = rig_open_disk(f);
    edit(b, BLK_BITMAP_ADD, "b", 512, NULL);
    edit(b, BLK_BITMAP_ADD, "off", 512, NULL);
    assert_int_equal(blk_op_sync(b, BLK_WRITE_ZEROES, MIB, 1024, 0), 0);
    edit(b, BLK_BITMAP_DISABLE, "off", 0, NULL);
    rig_snap(b, BLK_SNAP_CREATE, "s");
    assert_int_equal(blk_resize(b, 400 * MIB, BLK_PREALLOC_OFF, &e), 0);
    assert_int_equal(blk_op_sync(b, BLK_WRITE_ZEROES, 400 * MIB - 512, 512, 0), 0);
    rig_self_check(b);
    blk_close(b);
    assert_int_equal(count(f, "b"), 3);
    assert_int_equal(count(f, "off"), 2);
    rig_judge(f);
    b = rig_open_disk(f);
    assert_int_equal(blk_resize(b, MIB + 512, BLK_PREALLOC_OFF, &e), 0);
    blk_close(b);
    assert_int_equal(count(f, "off"), 1);
    rig_judge(f);
    b = rig_open_disk(f);
    rig_snap(b, BLK_SNAP_APPLY, "s");
    assert_int_equal(b->size, DISK);
    rig_self_check(b);
    blk_close(b);
    assert_int_equal(count(f, "b"), DISK / 512);
    assert_int_equal(count(f, "off"), 1);
    rig_judge(f);
}

/* The same as QEMU: what its tools store we load, and the other way. */
static void test_qemu(void **ctx)
{
    struct fixture *f = *ctx;
    struct blk *b;

    if (access("/usr/bin/qemu-io", X_OK))
        skip();
    rig_create(f, DISK, NULL, NULL);
    assert_int_equal(rig_run_command("qemu-img bitmap --add -g 4096 %s q", f->path), 0);
    assert_int_equal(
        rig_run_command("qemu-io -c 'write 5000 10000' -c 'discard 1M 64k' %s >/dev/null", f->path),
        0);
    assert_int_equal(count(f, "q"), 3 + 16);
    b = rig_open_disk(f);
    assert_int_equal(blk_op_sync(b, BLK_WRITE_ZEROES, 2 * MIB, 8192, 0), 0);
    blk_close(b);
    assert_int_equal(count(f, "q"), 3 + 16 + 2);
    assert_int_equal(rig_run_command("qemu-img bitmap --add --disable -g 4096 %s r", f->path), 0);
    assert_int_equal(rig_run_command("qemu-img bitmap --merge q %s r", f->path), 0);
    assert_int_equal(count(f, "r"), 3 + 16 + 2);
    assert_int_equal(rig_run_command("qemu-img resize -q %s 8M", f->path), 0);
    assert_int_equal(count(f, "r"), 3 + 16 + 2);
    rig_judge(f);
}

/* Random load with bitmaps of which none may miss a byte that became another. */
static void test_torture(void **ctx)
{
    static const char *const options[][2] = { { NULL },
                                              { "cluster_size=512", NULL },
                                              { "cluster_size=16K", NULL } };
    struct fixture *f = *ctx;

    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        uint8_t *model = calloc(1, DISK), *before = malloc(DISK);
        struct blk *b;
        struct qcow2_bitmap *m;

        rig_create(f, DISK, options[i], NULL);
        b = rig_open_disk(f);
        rig_torture(b, model, 5 + i, 300, 0);
        memcpy(before, model, DISK);
        edit(b, BLK_BITMAP_ADD, "b", 512, NULL);
        rig_torture(b, model, 50 + i, 60, 0);
        rig_reopen(f, &b, model);
        rig_torture(b, model, 90 + i, 60, 0);
        m = &qcow2_of(b)->bitmaps->v[0];
        for (uint64_t s = 0; s < DISK / 512; s++)
            assert_true(bitmap_test(m->bits, s) || !memcmp(model + s * 512, before + s * 512, 512));
        blk_close(b);
        rig_judge(f);
        assert_true(count(f, "b") > 0);
        free(model);
        free(before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_records, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_refuses, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_inconsistent, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_sizes, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_qemu, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_torture, rig_set_up, rig_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
