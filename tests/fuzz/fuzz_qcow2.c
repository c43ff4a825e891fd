/*
 * fuzz_qcow2.c: a hostile qcow2 image, opened, checked, read and written by a guest. It lies in memory; files that
 * it names are not opened.
 *
 * Input: how many operations, eight bytes for each, the image.
 */
#include "fuzz.h"

#include <errno.h>
#include <jansson.h>

#include "block/formats.h"
#include "memblk.h"

enum { FUZZ_OPS = 24, FUZZ_BUF = 256 * KIB, FUZZ_GROW = 16 * MIB, FUZZ_INCOMPAT = 72 + 7 };

static struct fuzz_qcow2 {
    uint8_t *buf;
} fuzz_qcow2;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_confine();
    fuzz_qcow2.buf = calloc(1, FUZZ_BUF);
    BUG_ON(!fuzz_qcow2.buf);
    return 0;
}

static void fuzz_qcow2_done(struct blk_req *r, int err)
{
    (void)err;
    free(r->iov);
    free(r);
}

static void fuzz_qcow2_submit(struct blk *b, enum blk_op op, unsigned flags, uint64_t off,
                              uint64_t len)
{
    struct blk_req *r = calloc(1, sizeof(*r));
    struct iovec *iov = malloc(sizeof(*iov));

    BUG_ON(!r || !iov);
    *iov = (struct iovec){ fuzz_qcow2.buf, len };
    *r = (struct blk_req){ .op = op,
                           .flags = flags,
                           .off = off,
                           .len = len,
                           .iov = iov,
                           .niov = 1,
                           .done = fuzz_qcow2_done };
    blk_submit(b, r);
}

static void fuzz_qcow2_snap(struct blk *b, enum blk_snap what)
{
    struct err e = { 0 };

    blk_drain(b);
    if (!b->ops->snap(b, what, "s", &e))
        BUG_ON(b->size % BLK_SECTOR);
}

static void fuzz_qcow2_maintain(struct blk *b, unsigned what)
{
    struct blk_check c = { 0 };
    struct blk_info i;
    struct err e = { 0 };

    blk_drain(b);
    switch (what % 5) {
    case 0:
        if (b->ops->check(b, what & 8 ? BLK_FIX_ERRORS | BLK_FIX_LEAKS : 0, &c, &e))
            BUG_ON(!e.code);
        break;
    case 1:
        blk_info(b, &i);
        json_decref(i.specific);
        json_decref(i.snapshots);
        break;
    case 2:
        fuzz_qcow2_snap(b, BLK_SNAP_CREATE);
        break;
    case 3:
        fuzz_qcow2_snap(b, BLK_SNAP_APPLY);
        break;
    case 4:
        fuzz_qcow2_snap(b, BLK_SNAP_DELETE);
        break;
    }
}

static void fuzz_qcow2_bitmap(struct blk *b, unsigned what)
{
    static const char *const names[] = { "a", "b" };
    struct blk_bitmap o = { .what = (enum blk_bitmap_what)(what % 6),
                            .name = names[what / 6 % 2],
                            .granularity = BIT64(9 + what / 12 % 12),
                            .from_name = "a" };
    struct err e = { 0 };

    blk_drain(b);
    if (b->ops->bitmap(b, &o, &e))
        BUG_ON(!e.code);
}

static void fuzz_qcow2_op(struct blk *b, const uint8_t *p)
{
    static const enum blk_op ops[] = { BLK_READ, BLK_WRITE, BLK_WRITE_ZEROES, BLK_DISCARD,
                                       BLK_FLUSH };
    uint64_t off = (uint64_t)ld_le16(p + 2) * BLK_SECTOR << (p[1] & 31);
    uint64_t len = (uint64_t)(1 + p[4]) * BLK_SECTOR;
    struct blk_extent x;

    if (b->size < BLK_SECTOR)
        return;
    off = off % b->size / BLK_SECTOR * BLK_SECTOR;
    len = min_u64(len, b->size - off);
    if (p[0] % 8 < 5)
        fuzz_qcow2_submit(b, ops[p[0] % 8], p[5] & 7, off, len);
    else if (p[0] % 8 == 5)
        fuzz_qcow2_maintain(b, p[5]);
    else if (p[0] % 8 == 7)
        fuzz_qcow2_bitmap(b, p[5]);
    else if (!blk_status(b, off, len, &x))
        BUG_ON(!x.len || x.len > len);
}

static void fuzz_qcow2_use(struct memblk *m, const uint8_t *ops, unsigned n, bool readonly)
{
    struct blk_opts o = {
        .path = "image", .format = "qcow2", .no_backing = true, .readonly = readonly
    };
    struct err e = { 0 };
    struct blk *b = memblk_open_image(m, &blk_qcow2_ops, &o, &e);

    if (!b) {
        BUG_ON(!e.code);
        return;
    }
    for (unsigned i = 0; i < n; i++)
        fuzz_qcow2_op(b, ops + 8 * i);
    blk_close(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    unsigned n = len ? data[0] % FUZZ_OPS : 0;
    struct memblk *m;
    uint8_t *image;

    if (len < 1 + 8 * n + 80)
        return 0;
    len -= 1 + 8 * n;
    image = malloc(len);
    BUG_ON(!image);
    memcpy(image, data + 1 + 8 * n, len);
    image[FUZZ_INCOMPAT] &= (uint8_t)~BIT(2); /* an external data file would be one of the host's */
    m = memblk_new_from(image, len);
    memblk_limit(m, len + FUZZ_GROW);
    fuzz_qcow2_use(m, data + 1, n, true);
    fuzz_qcow2_use(m, data + 1, n, false);
    memblk_destroy(m);
    free(image);
    return 0;
}
