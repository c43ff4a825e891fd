/*
 * qcow2_cache.c: slices of L2 tables in memory, found by their place in the file, the least recently used
 * clean ones forgotten. Lock held in all of it, unless it says otherwise.
 */
#include <errno.h>
#include <string.h>

#include "block/qcow2_priv.h"

enum { CACHE_HASH_MAX = 1 << 16 };

int qcow2_cache_init(struct qcow2 *q)
{
    q->slice_size = (uint32_t)min_u64(QCOW2_SLICE, q->cluster_size);
    q->slice_entries = q->slice_size / q->entry_size;
    q->max_slices = QCOW2_CACHE / q->slice_size;
    q->hash_size = min_u64(CACHE_HASH_MAX, q->max_slices);
    q->hash = calloc(q->hash_size, sizeof(struct qcow2_slice *));
    return q->hash ? 0 : -ENOMEM;
}

static struct qcow2_slice **cache_bucket(struct qcow2 *q, uint64_t off)
{
    uint64_t h = off / q->slice_size * 0x9e3779b97f4a7c15ull;

    return &q->hash[(h >> 40) & (q->hash_size - 1)];
}

static void cache_unlink_lru(struct qcow2 *q, struct qcow2_slice *s)
{
    *(s->newer ? &s->newer->older : &q->newest) = s->older;
    *(s->older ? &s->older->newer : &q->oldest) = s->newer;
}

static void cache_link_newest(struct qcow2 *q, struct qcow2_slice *s)
{
    s->newer = NULL;
    s->older = q->newest;
    *(q->newest ? &q->newest->newer : &q->oldest) = s;
    q->newest = s;
}

/* Not to be found any more. */
static void cache_detach(struct qcow2 *q, struct qcow2_slice *s)
{
    struct qcow2_slice **at = cache_bucket(q, s->off);

    while (*at != s)
        at = &(*at)->hash_next;
    *at = s->hash_next;
    cache_unlink_lru(q, s);
    q->n_slices--;
}

static void cache_free(struct qcow2_slice *s)
{
    free(s->data);
    free(s);
}

static void cache_forget(struct qcow2 *q, struct qcow2_slice *s)
{
    cache_detach(q, s);
    cache_free(s);
}

static bool cache_idle(const struct qcow2_slice *s)
{
    return !s->pins && !s->loading && !s->dirty;
}

/* Makes room for one; if nothing can go yet, the cache is too large for a while and a commit cures it. */
static void cache_make_room(struct qcow2 *q)
{
    struct qcow2_slice *s = q->oldest;

    for (unsigned i = 0; s && q->n_slices >= q->max_slices && i < 64; i++) {
        struct qcow2_slice *newer = s->newer;

        if (cache_idle(s)) {
            cache_forget(q, s);
        } else { /* out of the way of the next one who looks */
            cache_unlink_lru(q, s);
            cache_link_newest(q, s);
        }
        s = newer;
    }
}

void qcow2_cache_drop_clean(struct qcow2 *q)
{
    for (struct qcow2_slice *s = q->oldest, *newer; s; s = newer) {
        newer = s->newer;
        if (cache_idle(s))
            cache_forget(q, s);
    }
    for (unsigned i = 0; i < QCOW2_UNPACKED; i++)
        q->unpacked[i].entry = 0;
}

void qcow2_cache_drop_table(struct qcow2 *q, uint64_t off)
{
    for (uint64_t at = off; at < off + q->cluster_size; at += q->slice_size) {
        struct qcow2_slice *s = *cache_bucket(q, at);

        while (s && s->off != at)
            s = s->hash_next;
        if (s && cache_idle(s))
            cache_forget(q, s);
    }
}

void qcow2_cache_fini(struct qcow2 *q)
{
    while (q->oldest)
        cache_forget(q, q->oldest);
    free(q->hash);
    q->hash = NULL;
}

/* Loop thread, no lock held. */
static void cache_loaded(struct blk_req *r, int err)
{
    struct qcow2_slice *s = container_of(r, struct qcow2_slice, io.req);
    struct qcow2 *q = s->q;
    struct qcow2_op *waiters;

    pthread_mutex_lock(&q->lock);
    s->loading = false;
    waiters = s->waiters;
    s->waiters = NULL;
    s->pins--;
    s->err = err;
    if (err) {
        cache_detach(q, s);
        if (!s->pins) /* else a blocking loader frees it */
            cache_free(s);
    }
    pthread_cond_broadcast(&q->cond);
    pthread_mutex_unlock(&q->lock);
    qcow2_op_run_list(waiters, err, true);
}

static struct qcow2_slice *cache_add(struct qcow2 *q, uint64_t off, struct qcow2_issue *issue)
{
    struct qcow2_slice *s = calloc(1, sizeof(*s)), **bucket = cache_bucket(q, off);

    cache_make_room(q);
    if (s)
        s->data = malloc(q->slice_size);
    if (!s || !s->data) {
        free(s);
        return NULL;
    }
    s->q = q;
    s->off = off;
    s->hash_next = *bucket;
    *bucket = s;
    cache_link_newest(q, s);
    q->n_slices++;
    s->loading = true;
    s->pins = 1;
    s->iov = (struct iovec){ s->data, q->slice_size };
    s->io.to = q->file;
    s->io.req = (struct blk_req){ .op = BLK_READ,
                                  .off = off,
                                  .len = q->slice_size,
                                  .iov = &s->iov,
                                  .niov = 1,
                                  .done = cache_loaded };
    qcow2_issue_add(issue, &s->io);
    return s;
}

struct qcow2_slice *qcow2_cache_get(struct qcow2 *q, uint64_t table_off, uint64_t index,
                                    struct qcow2_issue *issue)
{
    uint64_t off = table_off + align_down(index * q->entry_size, q->slice_size);
    struct qcow2_slice *s = *cache_bucket(q, off);

    while (s && s->off != off)
        s = s->hash_next;
    if (!s)
        return cache_add(q, off, issue);
    if (s != q->newest) {
        cache_unlink_lru(q, s);
        cache_link_newest(q, s);
    }
    return s;
}

int qcow2_cache_await(struct qcow2 *q, struct qcow2_slice *s, struct qcow2_issue *issue)
{
    int err;

    s->pins++;
    pthread_mutex_unlock(&q->lock);
    qcow2_issue_go(q, issue);
    qcow2_issue_init(issue);
    pthread_mutex_lock(&q->lock);
    while (s->loading)
        qcow2_meta_block(q);
    err = s->err;
    s->pins--;
    if (err && !s->pins)
        cache_free(s);
    return err;
}

int qcow2_cache_load(struct qcow2 *q, uint64_t table_off, uint64_t index, struct qcow2_slice **s)
{
    struct qcow2_issue issue;

    qcow2_issue_init(&issue);
    *s = qcow2_cache_get(q, table_off, index, &issue);
    if (!*s)
        return -ENOMEM;
    return (*s)->loading ? qcow2_cache_await(q, *s, &issue) : 0;
}

void qcow2_cache_dirty(struct qcow2 *q, struct qcow2_slice *s)
{
    if (s->dirty)
        return;
    s->dirty = true;
    q->n_dirty++;
    if (q->n_dirty > q->max_slices / 4) {
        q->want_commit = true;
        qcow2_meta_kick(q);
    }
}
