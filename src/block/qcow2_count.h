/*
 * qcow2_count.h: how often each cluster of an image is referred to, found out by walking through all of it; and
 * writing refcounts anew. Blocking; nothing in flight, meta jobs held.
 */
#ifndef BLOCK_QCOW2_COUNT_H
#define BLOCK_QCOW2_COUNT_H

#include "block/qcow2_priv.h"
#include "block/qcow2_snapshot.h"

struct qcow2_count {
    struct qcow2 *q;
    uint64_t clusters; /* of the file */
    uint64_t room;
    uint32_t *n;         /* references to each; stops at the largest number */
    uint64_t tables;     /* L2 tables walked so far: bounds the time that a hostile image takes */
    struct blk_check *c; /* mistakes are reported there; never NULL */
};

must_check int qcow2_count_init(struct qcow2_count *k, struct qcow2 *q, struct blk_check *c);
void qcow2_count_fini(struct qcow2_count *k);
void qcow2_count_say(struct qcow2_count *k, const char *fmt, ...) printf_like(2, 3);
/* One more reference to each cluster of [off, off + len). False: it is not within the file (reported). */
bool qcow2_count_range(struct qcow2_count *k, uint64_t off, uint64_t len, const char *what);
/* An L1 table, its tables and what they refer to, and not the L1 itself. active: for the statistics too. */
must_check int qcow2_count_l1(struct qcow2_count *k, const uint64_t *l1, uint64_t size,
                              bool active);
/*
 * Everything but the disk's own mapping and the refcounts: header, snapshots (but not the one with number
 * `but`; -1: all), bitmaps, the encryption header. 0 or -errno.
 */
must_check int qcow2_count_rest(struct qcow2_count *k, const struct qcow2_snapshots *list,
                                int64_t but);
/* The L1 table in memory and its clusters. */
must_check int qcow2_count_active(struct qcow2_count *k);
/* The refcount table and its blocks. */
void qcow2_count_refcounts(struct qcow2_count *k);

/* --- qcow2_rebuild.c --- */
/* New refcounts (and tables that change with them) go where nothing is; one sector of the header makes them valid. */
struct qcow2_rebuild {
    struct qcow2 *q;
    struct qcow2_count want; /* what is to be; grows by what is written */
    struct qcow2_count have; /* what the file has now: is left alone */
    struct qcow2_header h;   /* the numbers of the header to be; its strings are q->h's */
    uint64_t next;           /* where to look for a free cluster */
    struct err *e;
};
/* A run of free clusters, which count as taken once from now on. Its offset, or 0: no memory. */
uint64_t qcow2_rebuild_alloc(struct qcow2_rebuild *r, uint64_t clusters);
/*
 * The disk's mapping becomes l1 (owned by the caller), of `size` entries: `copied` flags are made right in it
 * and in its tables, which are copied where they change; the L1 itself is written to a new place if fresh_l1 or
 * if it changed. Its references are part of r->want already, but for the L1 itself.
 */
must_check int qcow2_rebuild_active(struct qcow2_rebuild *r, uint64_t *l1, uint32_t size,
                                    bool fresh_l1);
/* Writes the refcounts and the header, reads it all back, and gives back what is free now. */
must_check int qcow2_rebuild_finish(struct qcow2_rebuild *r);

#endif
