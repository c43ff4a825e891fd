/* Any bytes of a disk that takes only whole blocks, against an array; memory below, in any order of completion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "blkjob.h"
#include "block/formats.h"
#include "memblk.h"

enum { BLOCK = 4096, DISK = 24 * BLOCK + 1100, ROUNDS = 400, JOBS = 24 };

struct fixture {
    struct memblk *mem;
    struct blk *b;
    uint8_t model[DISK];
    uint64_t rng;
};

/* Between the driver under test and memory: what a server would refuse fails the test. */
static void strict_submit(struct blk *b, struct blk_req *r)
{
    if (r->op != BLK_FLUSH) {
        assert_int_equal(r->off % BLOCK, 0);
        assert_true(r->len && (r->len % BLOCK == 0 || r->off + r->len == DISK));
        assert_true(r->off + r->len <= DISK);
    }
    b->child->ops->submit(b->child, r);
}

static int strict_open(struct blk *b, const struct blk_opts *o, struct err *e)
{
    (void)o;
    (void)e;
    b->size = DISK;
    b->block = BLOCK;
    return 0;
}

static const struct blk_ops strict_ops = {
    .format = "strict",
    .open = strict_open,
    .submit = strict_submit,
};

static unsigned roll(struct fixture *f, unsigned n)
{
    f->rng = f->rng * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(f->rng >> 33) % n;
}

static int set_up(void **ctx)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct blk_opts o = { .path = "blocks", .format = "raw" };
    struct blk *strict;

    assert_non_null(f);
    f->rng = 5;
    for (unsigned i = 0; i < DISK; i++)
        f->model[i] = (uint8_t)(i * 31 + i / BLOCK);
    f->mem = memblk_new_from(f->model, DISK);
    memblk_seed(f->mem, 7);
    strict = memblk_open_image(f->mem, &strict_ops, &o, NULL);
    assert_true(blk_blocks_wanted(strict));
    f->b = blk_open_driver(&blk_blocks_ops, strict, &o, NULL);
    assert_non_null(f->b);
    *ctx = f;
    return 0;
}

static int tear_down(void **ctx)
{
    struct fixture *f = *ctx;

    blk_close(f->b);
    memblk_destroy(f->mem);
    free(f);
    return 0;
}

static void expect_all(struct fixture *f)
{
    uint8_t now[DISK];

    assert_int_equal(blk_read_sync(f->b, 0, now, DISK), 0);
    assert_memory_equal(now, f->model, DISK);
}

/* One of the pieces that the disk was cut into, so that no two jobs have a byte in common. */
static void start_job(struct fixture *f, struct blkjob *job, uint8_t *buf, uint64_t from,
                      uint64_t to)
{
    static const enum blk_op ops[] = { BLK_WRITE, BLK_WRITE, BLK_WRITE_ZEROES, BLK_READ };
    enum blk_op op = ops[roll(f, ARRAY_SIZE(ops))];

    memset(buf + from, (int)roll(f, 256), to - from);
    if (op == BLK_WRITE)
        memcpy(f->model + from, buf + from, to - from);
    if (op == BLK_WRITE_ZEROES)
        memset(f->model + from, 0, to - from);
    blkjob_start(f->b, job, op, from, op == BLK_WRITE_ZEROES ? NULL : buf + from, to - from, 0);
}

static void test_many_at_once(void **ctx)
{
    struct fixture *f = *ctx;
    static struct blkjob job[JOBS];
    uint8_t *buf = malloc(DISK);

    assert_non_null(buf);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned n = 0;

        for (uint64_t at = roll(f, 3000); n < JOBS && at < DISK; n++) {
            uint64_t to = min_u64(at + 1 + roll(f, roll(f, 4) ? 3000 : 5 * BLOCK), DISK);

            if (!roll(f, 3))
                to = min_u64(align_up(to, BLOCK), DISK);
            start_job(f, &job[n], buf, at, to);
            at = to;
        }
        blk_drain(f->b);
        for (unsigned i = 0; i < n; i++) {
            assert_true(job[i].n_done == 1 && !job[i].err);
            if (job[i].req.op == BLK_READ)
                assert_memory_equal(buf + job[i].req.off, f->model + job[i].req.off,
                                    job[i].req.len);
        }
        expect_all(f);
    }
    free(buf);
}

/* Parts of blocks keep what they have: only whole ones may be given back. */
static void test_discard(void **ctx)
{
    struct fixture *f = *ctx;

    assert_int_equal(blk_op_sync(f->b, BLK_DISCARD, 100, 3 * BLOCK, 0), 0);
    memset(f->model + BLOCK, 0, 2ul * BLOCK);
    assert_int_equal(blk_op_sync(f->b, BLK_DISCARD, 5 * BLOCK + 1, BLOCK - 1, 0), 0);
    assert_int_equal(blk_op_sync(f->b, BLK_DISCARD, 7 * BLOCK, 0, 0), -EINVAL);
    assert_int_equal(blk_op_sync(f->b, BLK_FLUSH, 0, 0, 0), 0);
    expect_all(f);
}

/* A failure in the middle: it is told, and whoever waited for the same block goes on. */
static void test_failure(void **ctx)
{
    struct fixture *f = *ctx;
    struct blkjob a, b;
    uint8_t buf[600];

    memset(buf, 9, sizeof(buf));
    memblk_fail(f->mem, 1, -EIO, 0);
    blkjob_start(f->b, &a, BLK_WRITE, 10, buf, sizeof(buf), 0);
    blkjob_start(f->b, &b, BLK_WRITE, 1000, buf, sizeof(buf), 0);
    blk_drain(f->b);
    assert_int_equal(a.err, -EIO);
    assert_int_equal(b.err, 0);
    memcpy(f->model + 1000, buf, sizeof(buf));
    expect_all(f);
}

/* As a disk it has one more sector than whole ones fit: zeros behind the end. */
static void test_last_sector(void **ctx)
{
    struct fixture *f = *ctx;
    const struct blk_opts o = { .path = "blocks", .format = "raw" };
    uint64_t last = align_down(DISK, BLK_SECTOR), rest = DISK - last;
    struct blk *disk = blk_open_driver(&blk_raw_ops, f->b, &o, NULL);
    struct blk_extent x;
    uint8_t buf[BLK_SECTOR];

    assert_non_null(disk);
    assert_int_equal(disk->size, last + BLK_SECTOR);
    memset(buf, 0xff, sizeof(buf));
    assert_int_equal(blk_read_sync(disk, last, buf, sizeof(buf)), 0);
    assert_memory_equal(buf, f->model + last, rest);
    for (uint64_t i = rest; i < sizeof(buf); i++)
        assert_int_equal(buf[i], 0);
    memset(buf, 1, rest);
    memset(f->model + last, 1, rest);
    assert_int_equal(blk_write_sync(disk, last, buf, sizeof(buf)), 0);
    buf[BLK_SECTOR - 1] = 1;
    assert_int_equal(blk_write_sync(disk, last, buf, sizeof(buf)), -ENOSPC);
    assert_int_equal(blk_read_sync(disk, DISK, buf, last + BLK_SECTOR - DISK), 0);
    assert_int_equal(buf[0], 0);
    assert_int_equal(blk_status(disk, 0, disk->size, &x), 0);
    assert_int_equal(x.len, DISK);
    assert_int_equal(blk_status(disk, DISK, disk->size - DISK, &x), 0);
    assert_true(x.flags & BLK_X_ZERO);
    f->b = disk; /* which owns it */
    expect_all(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_discard, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_last_sector, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
