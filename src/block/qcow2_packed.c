/*
 * qcow2_packed.c: compressed clusters. They are unpacked and packed on threads of the pool; some that were
 * unpacked are kept, because guests read them piece by piece.
 */
#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/iov.h"
#include "block/qcow2_priv.h"

enum { PACKED_WINDOW = -12 }; /* raw deflate; what other programs read */

/* A part of an op that waits for a cluster. */
struct packed_want {
    struct packed_want *next;
    struct qcow2_op *op;
    uint64_t pos, in, len; /* where in the op; which part of the cluster */
};

struct packed_job {
    struct packed_job *next; /* of q->unpacking */
    struct qcow2 *q;
    struct qcow2_io io;
    struct iovec iov;
    struct work work;
    struct packed_want *wants;
    uint64_t entry;
    size_t len; /* packed */
    uint8_t *packed, *data;
    int err;
};

/* --- codecs --- */

/* in[] is whole sectors: what is behind the end of the stream does not count. */
static int packed_inflate(uint8_t *out, size_t out_len, const uint8_t *in, size_t in_len)
{
    struct inflate_state z;

    isal_inflate_init(&z);
    z.next_in = (uint8_t *)(uintptr_t)in; /* is only read */
    z.avail_in = (uint32_t)in_len;
    z.next_out = out;
    z.avail_out = (uint32_t)out_len;
    isal_inflate_stateless(&z);
    return z.avail_out ? -EIO : 0;
}

static int packed_unzstd(uint8_t *out, size_t out_len, const uint8_t *in, size_t in_len)
{
    size_t n = ZSTD_findFrameCompressedSize(in, in_len);

    if (!ZSTD_isError(n))
        n = ZSTD_decompress(out, out_len, in, n);
    return n == out_len ? 0 : -EIO;
}

/* The length, or 0 if it does not get smaller than out_len. */
static size_t packed_deflate(uint8_t *out, size_t out_len, const uint8_t *in, size_t in_len)
{
    z_stream z = { 0 };
    int rc =
        deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, PACKED_WINDOW, 9, Z_DEFAULT_STRATEGY);
    size_t n;

    if (rc != Z_OK)
        return 0;
    z.next_in = (uint8_t *)(uintptr_t)in;
    z.avail_in = (uInt)in_len;
    z.next_out = out;
    z.avail_out = (uInt)out_len;
    rc = deflate(&z, Z_FINISH);
    n = out_len - z.avail_out;
    deflateEnd(&z);
    return rc == Z_STREAM_END ? n : 0;
}

static size_t packed_zstd(uint8_t *out, size_t out_len, const uint8_t *in, size_t in_len)
{
    size_t n = ZSTD_compress(out, out_len, in, in_len, ZSTD_CLEVEL_DEFAULT);

    return ZSTD_isError(n) ? 0 : n;
}

/* --- reading --- */

void qcow2_packed_forget(struct qcow2 *q, uint64_t entry)
{
    for (unsigned i = 0; i < QCOW2_UNPACKED; i++)
        if (q->unpacked[i].entry == entry)
            q->unpacked[i].entry = 0;
}

void qcow2_packed_fini(struct qcow2 *q)
{
    for (unsigned i = 0; i < QCOW2_UNPACKED; i++)
        free(q->unpacked[i].data);
}

static struct qcow2_unpacked *packed_find(struct qcow2 *q, uint64_t entry)
{
    for (unsigned i = 0; i < QCOW2_UNPACKED; i++)
        if (q->unpacked[i].entry == entry)
            return &q->unpacked[i];
    return NULL;
}

/* Takes data over. Lock held. */
static void packed_keep(struct qcow2 *q, uint64_t entry, uint8_t *data)
{
    struct qcow2_unpacked *oldest = &q->unpacked[0];

    for (unsigned i = 1; i < QCOW2_UNPACKED; i++)
        if (q->unpacked[i].used < oldest->used)
            oldest = &q->unpacked[i];
    free(oldest->data);
    *oldest = (struct qcow2_unpacked){ entry, ++q->unpacked_clock, data };
}

static void packed_copy(const struct packed_want *w, const uint8_t *data)
{
    iov_copy_to(w->op->r->iov, (unsigned)w->op->r->niov, w->pos, data + w->in, w->len);
}

/* The cluster is there, or is not to be had. */
static void packed_end(struct packed_job *job, bool on_loop)
{
    struct qcow2 *q = job->q;
    struct packed_job **at = &q->unpacking;
    struct packed_want *w;

    pthread_mutex_lock(&q->lock);
    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    w = job->wants; /* no more come */
    for (struct packed_want *i = w; i && !job->err; i = i->next)
        packed_copy(i, job->data);
    if (!job->err)
        packed_keep(q, job->entry, job->data);
    else
        free(job->data);
    pthread_mutex_unlock(&q->lock);
    while (w) {
        struct packed_want *next = w->next;

        qcow2_op_put(w->op, job->err, on_loop);
        free(w);
        w = next;
    }
    free(job->packed);
    free(job);
}

static int packed_cluster(struct qcow2 *q, uint8_t *out, const uint8_t *in, size_t in_len)
{
    int rc = q->h.compression == QCOW2_ZSTD ? packed_unzstd(out, q->cluster_size, in, in_len)
                                            : packed_inflate(out, q->cluster_size, in, in_len);

    if (rc == -EIO)
        log_limited(&q->limit, LOG_ERROR, "block", "disk '%s': a compressed cluster is damaged",
                    q->b->path);
    return rc;
}

int qcow2_packed_unpack(struct blk *b, const struct blk_extent *x, const void *in, void *out)
{
    return packed_cluster(qcow2_of(b), out, in, x->packed_len);
}

static void packed_unpack(struct work *work)
{
    struct packed_job *job = container_of(work, struct packed_job, work);

    job->err = packed_cluster(job->q, job->data, job->packed, job->len);
    packed_end(job, false);
}

static void packed_was_read(struct blk_req *r, int err)
{
    struct packed_job *job = container_of(r, struct packed_job, io.req);

    if (err) {
        job->err = err;
        packed_end(job, true);
        return;
    }
    job->work.run = packed_unpack;
    workq_submit(job->q->workq, &job->work);
}

static struct packed_job *packed_start(struct qcow2 *q, uint64_t entry, struct qcow2_issue *issue)
{
    struct packed_job *job = calloc(1, sizeof(*job));
    uint64_t host, len;

    qcow2_map_packed(q, entry, &host, &len);
    len = min_u64(len, q->file->size - host); /* qcow2_map_sane(): it begins within */
    if (job) {
        job->packed = malloc(len);
        job->data = malloc(q->cluster_size);
    }
    if (!job || !job->packed || !job->data) {
        if (job) {
            free(job->packed);
            free(job->data);
        }
        free(job);
        return NULL;
    }
    job->q = q;
    job->entry = entry;
    job->len = len;
    job->iov = (struct iovec){ job->packed, len };
    job->io.to = q->file;
    job->io.req = (struct blk_req){ .op = BLK_READ,
                                    .off = host,
                                    .len = len,
                                    .iov = &job->iov,
                                    .niov = 1,
                                    .done = packed_was_read };
    job->next = q->unpacking;
    q->unpacking = job;
    qcow2_issue_add(issue, &job->io);
    return job;
}

int qcow2_packed_read(struct qcow2_op *op, const struct qcow2_map *m, uint64_t off, uint64_t len,
                      struct qcow2_issue *issue)
{
    struct qcow2 *q = op->q;
    struct packed_want want = { .op = op,
                                .pos = op->pos,
                                .in = qcow2_in_cluster(q, off),
                                .len = len },
                       *w;
    struct qcow2_unpacked *have = packed_find(q, m->entry);
    struct packed_job *job = q->unpacking;

    if (have) {
        have->used = ++q->unpacked_clock;
        packed_copy(&want, have->data);
        return 0;
    }
    w = malloc(sizeof(*w));
    if (!w)
        return -ENOMEM;
    while (job && job->entry != m->entry)
        job = job->next;
    if (!job)
        job = packed_start(q, m->entry, issue);
    if (!job) {
        free(w);
        return -ENOMEM;
    }
    *w = want;
    w->next = job->wants;
    job->wants = w;
    atomic_fetch_add(&op->pending, 1);
    return 0;
}

/* --- writing --- */

static void packed_pack(struct work *work)
{
    struct qcow2_op *op = container_of(work, struct qcow2_op, work);
    struct qcow2 *q = op->q;
    uint8_t *data = calloc(1, q->cluster_size), *out = malloc(q->cluster_size);
    size_t n = 0;

    if (data && out) {
        iov_copy_from(op->r->iov, (unsigned)op->r->niov, 0, data, op->r->len);
        n = q->h.compression == QCOW2_ZSTD
                ? packed_zstd(out, q->cluster_size - 1, data, q->cluster_size)
                : packed_deflate(out, q->cluster_size - 1, data, q->cluster_size);
    }
    free(data);
    if (n) {
        op->packed = out;
        op->packed_len = n;
    } else { /* it is written as it is */
        free(out);
    }
    qcow2_op_run(op, false);
}

int qcow2_packed_write(struct qcow2_op *op)
{
    struct qcow2 *q = op->q;
    const struct blk_req *r = op->r;
    bool whole = r->len == q->cluster_size || r->off + r->len == q->b->size;

    if (op->pack_tried || q->luks || q->external || qcow2_in_cluster(q, r->off) ||
        r->len > q->cluster_size || !whole)
        return 0;
    op->pack_tried = true;
    op->work.run = packed_pack;
    workq_submit(q->workq, &op->work);
    return 1;
}
