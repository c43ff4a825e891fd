#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qcow2_rig.h"

static void torture_image(struct fixture *f, const char *const *options, const char *backing,
                          uint64_t seed, unsigned flags)
{
    uint8_t *model = calloc(1, DISK);
    struct blk *b;

    if (backing)
        rig_make_base(f, model, DISK - 3 * MIB, seed | 1);
    rig_create(f, DISK, options, backing);
    for (int i = 0; i < 3; i++) {
        b = rig_open_disk(f);
        assert_int_equal(b->size, DISK);
        rig_torture(b, model, seed + 77 * i + 1, 600, flags);
        rig_check_all(b, model);
        blk_close(b);
        rig_judge(f);
        b = rig_open_disk(f);
        rig_check_all(b, model);
        blk_close(b);
    }
    free(model);
}

static void test_plain(void **ctx)
{
    torture_image(*ctx, NULL, NULL, 42, 0);
}

static void test_backing(void **ctx)
{
    torture_image(*ctx, NULL, "raw", 43, 0);
}

/* Requests end on the threads that did them, and drain and close wait for those. */
static void test_anywhere(void **ctx)
{
    torture_image(*ctx, NULL, "raw", 51, BLK_F_ANYWHERE);
}

/* Reads of what the page cache has end within commit. */
static void test_at_commit(void **ctx)
{
    torture_image(*ctx, NULL, "raw", 52, BLK_F_ANYWHERE | BLK_F_AT_COMMIT | BLK_F_MORE);
}

static void test_small_clusters(void **ctx)
{
    const char *options[] = { "cluster_size=512", NULL };

    torture_image(*ctx, options, "raw", 44, 0);
}

static void test_large_clusters(void **ctx)
{
    const char *options[] = { "cluster_size=2M", "refcount_bits=1", NULL };

    torture_image(*ctx, options, "raw", 45, 0);
}

static void test_extended(void **ctx)
{
    const char *options[] = { "extended_l2=on", "cluster_size=64K", "refcount_bits=64", NULL };

    torture_image(*ctx, options, "raw", 46, 0);
}

static void test_version_2(void **ctx)
{
    const char *options[] = { "compat=0.10", "cluster_size=4K", NULL };

    torture_image(*ctx, options, NULL, 47, 0);
    torture_image(*ctx, options, "raw", 48, 0);
}

static void test_compressed(void **ctx)
{
    const char *options[] = { "compression_type=zstd", NULL };

    torture_image(*ctx, NULL, NULL, 49, BLK_F_COMPRESS);
    torture_image(*ctx, options, "raw", 50, BLK_F_COMPRESS);
}

static void test_data_file(void **ctx)
{
    char name[128]; /* qemu-img takes a relative one from where it is started */
    const char *options[] = { name, NULL }, *raw[] = { name, "data_file_raw=on", NULL };

    snprintf(name, sizeof(name), "data_file=%s/data", ((struct fixture *)*ctx)->dir);
    torture_image(*ctx, options, NULL, 51, 0);
    torture_image(*ctx, raw, NULL, 52, 0);
}

static void snapshots_of(struct fixture *f, const char *const *options, const char *backing)
{
    uint8_t *model = calloc(1, DISK), *one = malloc(DISK), *two = malloc(DISK);
    struct err e = { 0 };
    struct blk *b;

    if (backing)
        rig_make_base(f, model, DISK - MIB, 5);
    rig_create(f, DISK, options, backing);
    b = rig_open_disk(f);
    rig_torture(b, model, 100, 300, 0);
    rig_snap(b, BLK_SNAP_CREATE, "one");
    memcpy(one, model, DISK);
    rig_reopen(f, &b, model);
    rig_torture(b, model, 200, 300, 0);
    rig_self_check(b);
    rig_snap(b, BLK_SNAP_CREATE, "two");
    memcpy(two, model, DISK);
    rig_torture(b, model, 300, 300, 0);
    rig_reopen(f, &b, model);
    assert_int_equal(b->ops->snap(b, BLK_SNAP_CREATE, "two", &e), -EEXIST);
    assert_int_equal(b->ops->snap(b, BLK_SNAP_DELETE, "three", NULL), -ENOENT);
    rig_snap(b, BLK_SNAP_APPLY, "one");
    memcpy(model, one, DISK);
    rig_reopen(f, &b, model);
    rig_torture(b, model, 400, 300, 0);
    rig_snap(b, BLK_SNAP_DELETE, "one");
    rig_reopen(f, &b, model);
    rig_snap(b, BLK_SNAP_APPLY, "2");
    memcpy(model, two, DISK);
    rig_torture(b, model, 500, 300, 0);
    rig_reopen(f, &b, model);
    rig_snap(b, BLK_SNAP_DELETE, "two");
    rig_torture(b, model, 600, 300, 0);
    rig_reopen(f, &b, model);
    blk_close(b);
    free(model);
    free(one);
    free(two);
}

static void test_snapshots(void **ctx)
{
    const char *small[] = { "cluster_size=4K", "refcount_bits=8", NULL };
    const char *extended[] = { "extended_l2=on", NULL }, *old[] = { "compat=0.10", NULL };

    snapshots_of(*ctx, NULL, NULL);
    snapshots_of(*ctx, small, "raw");
    snapshots_of(*ctx, extended, "raw");
    snapshots_of(*ctx, old, NULL);
}

static void resize(struct blk *b, uint64_t size, enum blk_prealloc mode)
{
    struct err e = { 0 };

    if (blk_resize(b, size, mode, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(b->size, size);
    rig_self_check(b);
}

static void test_resize(void **ctx)
{
    const char *options[] = { "cluster_size=512", NULL };
    uint8_t *model = calloc(1, DISK);
    struct fixture *f = *ctx;
    struct blk *b;

    rig_make_base(f, model, DISK, 7);
    rig_create(f, DISK - MIB, options, "raw");
    memset(model + DISK - MIB, 0, MIB);
    b = rig_open_disk(f);
    resize(b, DISK, BLK_PREALLOC_OFF); /* the longer base does not show */
    rig_torture(b, model, 1, 300, 0);
    resize(b, 100 * MIB, BLK_PREALLOC_OFF); /* needs another L1 */
    resize(b, DISK, BLK_PREALLOC_OFF);
    rig_reopen(f, &b, model);
    resize(b, MIB + 512, BLK_PREALLOC_OFF);
    resize(b, DISK, BLK_PREALLOC_OFF);
    memset(model + MIB + 512, 0, DISK - MIB - 512);
    rig_reopen(f, &b, model);
    rig_torture(b, model, 2, 300, 0);
    rig_reopen(f, &b, model);
    blk_close(b);
    free(model);
}

static void test_preallocation(void **ctx)
{
    static const char *const sets[][3] = { { "preallocation=metadata", NULL },
                                           { "preallocation=falloc", "extended_l2=on" },
                                           { "preallocation=full", "cluster_size=4K" },
                                           { "preallocation=metadata", "compat=0.10" } };
    struct fixture *f = *ctx;

    for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
        uint8_t *model = calloc(1, DISK);
        struct blk_extent x;
        struct blk *b;

        rig_create(f, DISK, sets[i], NULL);
        rig_judge(f);
        b = rig_open_disk(f);
        assert_int_equal(blk_status(b, DISK / 2, 512, &x), 0);
        assert_true(x.flags & BLK_X_OFFSET);
        rig_check_all(b, model);
        rig_torture(b, model, i + 1, 200, 0);
        rig_reopen(f, &b, model);
        resize(b, 2 * DISK, BLK_PREALLOC_METADATA);
        resize(b, DISK, BLK_PREALLOC_OFF);
        rig_reopen(f, &b, model);
        blk_close(b);
        free(model);
    }
}

/* Refcounts that are wrong in every way are found and mended. */
static void test_repair(void **ctx)
{
    uint8_t *model = calloc(1, DISK);
    struct fixture *f = *ctx;
    struct blk_check c = { 0 };
    struct err e = { 0 };
    struct blk *b;
    int fd;

    rig_create(f, DISK, NULL, NULL);
    b = rig_open_disk(f);
    rig_torture(b, model, 9, 300, 0);
    rig_check_all(b, model);
    blk_close(b);
    fd = open(f->path, O_RDWR | O_CLOEXEC);
    for (int i = 3; i < 90; i += 2) {
        uint8_t count[2] = { 0, (uint8_t)(i % 3) };

        assert_int_equal(pwrite(fd, count, 2, 2 * 65536 + i * 2), 2);
    }
    close(fd);
    b = rig_open_disk(f);
    assert_int_equal(b->ops->check(b, 0, &c, &e), 0);
    assert_true(c.corruptions && c.leaks);
    assert_int_equal(b->ops->check(b, BLK_FIX_ERRORS | BLK_FIX_LEAKS, &c, &e), 0);
    assert_true(c.corruptions_fixed);
    rig_self_check(b);
    rig_reopen(f, &b, model);
    rig_torture(b, model, 10, 300, 0);
    rig_reopen(f, &b, model);
    blk_close(b);
    free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plain, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_backing, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_anywhere, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_at_commit, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_small_clusters, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_large_clusters, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_extended, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_version_2, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_compressed, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_data_file, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_snapshots, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_resize, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_preallocation, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(test_repair, rig_set_up, rig_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
