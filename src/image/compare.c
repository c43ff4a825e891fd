/*
 * compare.c: see compare.h. A window at a time: first what both say is where (nothing may be in flight
 * then), then the pieces that at least one of them has, several at a time.
 */
#include "image/compare.h"

#include <errno.h>
#include <string.h>

enum {
    COMPARE_SLOTS = 8,
    COMPARE_PIECE = 512 * KIB,
    COMPARE_PIECES = 1024, /* of a window */
};

struct compare_piece {
    uint64_t off;
    uint32_t len;
};

struct compare;
struct compare_slot {
    struct compare *c;
    struct compare_piece piece;
    unsigned reading; /* requests under way */
    struct compare_side {
        struct compare_slot *slot;
        struct blk_req req;
        struct iovec iov;
        uint8_t *buf;
    } side[2];
};

struct compare {
    struct blk *disk[2];
    const struct compare_opts *opts;
    struct compare_result *result;
    uint64_t size, mapped;
    struct compare_piece piece[COMPARE_PIECES];
    unsigned n, next, busy;
    struct compare_slot slot[COMPARE_SLOTS];
    int err;
    const char *err_path;
    uint64_t err_off;
};

static void compare_differs(struct compare *c, uint64_t off, bool allocation)
{
    if (!c->result->same && c->result->off <= off)
        return;
    *c->result = (struct compare_result){ .allocation = allocation, .off = off };
}

/* --- what to read --- */

/* A disk's answer for off; behind its end there are zeros. */
static int compare_status(struct compare *c, unsigned i, uint64_t off, struct blk_extent *x)
{
    struct blk *b = c->disk[i];
    int rc;

    *x = (struct blk_extent){ .len = c->size - off, .flags = BLK_X_ZERO };
    if (off >= b->size)
        return 0;
    rc = blk_status(b, off, b->size - off, x);
    if (rc) {
        c->err_path = b->path;
        c->err_off = off;
    }
    return rc;
}

static void compare_add(struct compare *c, uint64_t off, uint64_t len)
{
    while (len && c->n < COMPARE_PIECES) {
        uint32_t n = (uint32_t)min_u64(len, COMPARE_PIECE);

        c->piece[c->n++] = (struct compare_piece){ off, n };
        off += n;
        len -= n;
    }
}

static int compare_map(struct compare *c)
{
    c->n = c->next = 0;
    while (c->mapped < c->size && c->n < COMPARE_PIECES) {
        struct blk_extent x, y;
        uint64_t len, room = (uint64_t)(COMPARE_PIECES - c->n) * COMPARE_PIECE;
        int rc = compare_status(c, 0, c->mapped, &x);

        if (!rc)
            rc = compare_status(c, 1, c->mapped, &y);
        if (rc)
            return rc;
        len = min_u64(x.len, y.len);
        if (c->opts->strict && ((x.flags ^ y.flags) & (BLK_X_ALLOCATED | BLK_X_ZERO)))
            compare_differs(c, c->mapped, true);
        if ((x.flags & BLK_X_ZERO) && (y.flags & BLK_X_ZERO)) {
            c->mapped += len;
            continue;
        }
        len = min_u64(len, room);
        compare_add(c, c->mapped, len);
        c->mapped += len;
    }
    return 0;
}

/* --- reading --- */

static void compare_start(struct compare_slot *s);

static void compare_slot_ready(struct compare_slot *s)
{
    const uint8_t *a = s->side[0].buf, *b = s->side[1].buf;
    struct compare *c = s->c;

    if (!c->err && memcmp(a, b, s->piece.len)) {
        uint64_t at = 0;

        while (!memcmp(a + at, b + at, BLK_SECTOR))
            at += BLK_SECTOR;
        compare_differs(c, s->piece.off + at, false);
    }
    compare_start(s);
}

static void compare_done(struct blk_req *r, int err)
{
    struct compare_side *side = container_of(r, struct compare_side, req);
    struct compare_slot *s = side->slot;
    struct compare *c = s->c;

    if (err && !c->err) {
        c->err = err;
        c->err_path = c->disk[side - s->side]->path;
        c->err_off = s->piece.off;
    }
    if (!--s->reading)
        compare_slot_ready(s);
}

/* Both sides of the next piece; the part behind a disk's end is zeros. */
static void compare_start(struct compare_slot *s)
{
    struct compare *c = s->c;
    bool stop = c->err || (!c->result->same && !c->result->allocation);

    if (c->next == c->n || stop) {
        c->busy--;
        return;
    }
    s->piece = c->piece[c->next++];
    s->reading = 1; /* ours, until both are submitted */
    for (unsigned i = 0; i < 2; i++) {
        struct compare_side *side = &s->side[i];
        uint64_t size = c->disk[i]->size;
        uint64_t have = s->piece.off < size ? min_u64(size - s->piece.off, s->piece.len) : 0;

        memset(side->buf + have, 0, s->piece.len - have);
        if (!have)
            continue;
        side->iov = (struct iovec){ side->buf, have };
        side->req = (struct blk_req){ .op = BLK_READ,
                                      .off = s->piece.off,
                                      .len = have,
                                      .iov = &side->iov,
                                      .niov = 1,
                                      .done = compare_done };
        s->reading++;
        blk_submit(c->disk[i], &side->req);
    }
    s->reading--; /* at least one of them has something there */
}

static int compare_window(struct compare *c)
{
    for (unsigned i = 0; i < COMPARE_SLOTS; i++) {
        c->busy++;
        compare_start(&c->slot[i]);
    }
    while (c->busy)
        loop_poll(c->opts->loop, -1);
    return c->err;
}

static int compare_run(struct compare *c)
{
    int rc = 0;

    while (!rc && c->mapped < c->size && (c->result->same || c->result->allocation)) {
        rc = compare_map(c);
        if (!rc)
            rc = compare_window(c);
        if (c->opts->progress)
            c->opts->progress(c->opts->opaque, c->mapped, c->size);
    }
    return rc;
}

static void compare_init(struct compare *c, struct blk *a, struct blk *b, uint8_t *memory)
{
    c->disk[0] = a;
    c->disk[1] = b;
    c->size = max_u64(a->size, b->size);
    for (unsigned i = 0; i < COMPARE_SLOTS; i++)
        for (unsigned k = 0; k < 2; k++) {
            c->slot[i].c = c;
            c->slot[i].side[k].slot = &c->slot[i];
            c->slot[i].side[k].buf = memory + (size_t)(2 * i + k) * COMPARE_PIECE;
        }
}

int compare_disks(struct blk *a, struct blk *b, const struct compare_opts *opts,
                  struct compare_result *result, struct err *e)
{
    struct compare *c = calloc(1, sizeof(*c));
    uint8_t *memory = malloc((size_t)2 * COMPARE_SLOTS * COMPARE_PIECE);
    int rc;

    *result = (struct compare_result){ .same = true };
    if (!c || !memory) {
        free(memory);
        free(c);
        return err_set(e, ENOMEM, "out of memory");
    }
    compare_init(c, a, b, memory);
    c->opts = opts;
    c->result = result;
    rc = compare_run(c);
    if (rc)
        err_set(e, -rc, "disk '%s' cannot be read at byte %llu: %s", c->err_path,
                (unsigned long long)c->err_off, strerror(-rc));
    free(memory);
    free(c);
    return rc;
}
