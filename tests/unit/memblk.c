#include "memblk.h"

#include <errno.h>
#include <stdio.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/iov.h"

enum { MEMBLK_SECTOR = 512 };

enum memblk_kind { EV_SUBMIT, EV_DONE };

/* A request that changes something was submitted or ended. */
struct memblk_event {
    enum memblk_kind kind;
    enum blk_op op;
    unsigned id; /* of the request, counted from 0 */
    uint64_t off, len;
    uint8_t *data; /* EV_SUBMIT of writes; NULL: zeros */
    bool fua, failed;
};

struct memblk {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    uint8_t *data;
    uint64_t size, room, limit;
    uint64_t rng;
    struct blk_req *queue;
    unsigned fail_in, fail_more;
    int fail_err;

    bool recording;
    uint8_t *base; /* the bytes when recording began */
    uint64_t base_size;
    struct memblk_event *ev;
    unsigned n_ev, room_ev, n_ids;
};

static uint64_t memblk_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void memblk_reserve(struct memblk *m, uint64_t size)
{
    if (size > m->room) {
        uint64_t room = max_u64(size, m->room + m->room / 2);

        m->data = realloc(m->data, room);
        BUG_ON(!m->data);
        memset(m->data + m->room, 0, room - m->room);
        m->room = room;
    }
    m->size = max_u64(m->size, size);
}

static struct memblk *memblk_new(void)
{
    struct memblk *m = calloc(1, sizeof(*m));

    BUG_ON(!m);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->cond, NULL);
    return m;
}

struct memblk *memblk_new_from(const uint8_t *bytes, uint64_t len)
{
    struct memblk *m = memblk_new();

    memblk_reserve(m, len);
    memcpy(m->data, bytes, len);
    return m;
}

void memblk_limit(struct memblk *m, uint64_t size)
{
    m->limit = size;
}

struct memblk *memblk_load(const char *path)
{
    struct memblk *m = memblk_new();
    FILE *f = fopen(path, "re");
    uint8_t buf[65536];
    size_t n;

    BUG_ON(!f);
    while ((n = fread(buf, 1, sizeof(buf), f))) {
        uint64_t at = m->size;

        memblk_reserve(m, at + n);
        memcpy(m->data + at, buf, n);
    }
    fclose(f);
    return m;
}

void memblk_save(const struct memblk *m, const char *path)
{
    FILE *f = fopen(path, "we");

    BUG_ON(!f || fwrite(m->data, 1, m->size, f) != m->size);
    BUG_ON(fclose(f));
}

int memblk_shell(const char *command)
{
    char *argv[] = { "sh", "-c", (char *)(uintptr_t)command, NULL };
    int status;
    pid_t pid;

    BUG_ON(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ));
    BUG_ON(waitpid(pid, &status, 0) != pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void memblk_forget(struct memblk *m)
{
    for (unsigned i = 0; i < m->n_ev; i++)
        free(m->ev[i].data);
    free(m->ev);
    free(m->base);
    m->ev = NULL;
    m->base = NULL;
    m->n_ev = m->room_ev = m->n_ids = 0;
}

void memblk_destroy(struct memblk *m)
{
    if (!m)
        return;
    memblk_forget(m);
    free(m->data);
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->cond);
    free(m);
}

void memblk_seed(struct memblk *m, uint64_t seed)
{
    m->rng = seed;
}

void memblk_record(struct memblk *m)
{
    memblk_forget(m);
    m->base = malloc(m->size + 1);
    BUG_ON(!m->base);
    memcpy(m->base, m->data, m->size);
    m->base_size = m->size;
    m->recording = true;
}

void memblk_fail(struct memblk *m, unsigned n, int err, unsigned more)
{
    pthread_mutex_lock(&m->lock);
    m->fail_in = n;
    m->fail_err = err;
    m->fail_more = more;
    pthread_mutex_unlock(&m->lock);
}

unsigned memblk_events(struct memblk *m)
{
    unsigned n;

    pthread_mutex_lock(&m->lock);
    n = m->n_ev;
    pthread_mutex_unlock(&m->lock);
    return n;
}

/* --- the driver --- */

static struct memblk_event *memblk_note(struct memblk *m, enum memblk_kind kind,
                                        const struct blk_req *r)
{
    struct memblk_event *e;

    if (m->n_ev == m->room_ev) {
        m->room_ev = m->room_ev ? 2 * m->room_ev : 1024;
        m->ev = realloc(m->ev, m->room_ev * sizeof(*m->ev));
        BUG_ON(!m->ev);
    }
    e = &m->ev[m->n_ev++];
    *e = (struct memblk_event){ .kind = kind, .op = r->op, .off = r->off, .len = r->len };
    e->id = (unsigned)(uintptr_t)r->priv[0];
    e->fua = r->flags & BLK_F_FUA;
    return e;
}

static void memblk_submit(struct blk *b, struct blk_req *r)
{
    struct memblk *m = b->priv;

    pthread_mutex_lock(&m->lock);
    if (m->recording && r->op != BLK_READ) {
        struct memblk_event *e;

        r->priv[0] = (void *)(uintptr_t)m->n_ids++;
        e = memblk_note(m, EV_SUBMIT, r);
        if (r->op == BLK_WRITE) {
            e->data = malloc(r->len);
            BUG_ON(!e->data);
            iov_copy_from(r->iov, (unsigned)r->niov, 0, e->data, r->len);
        }
    }
    r->next = m->queue;
    m->queue = r;
    pthread_cond_broadcast(&m->cond);
    pthread_mutex_unlock(&m->lock);
}

static int memblk_do(struct memblk *m, const struct blk_req *r)
{
    if (r->op != BLK_READ && m->fail_in && !--m->fail_in) {
        if (m->fail_more) {
            m->fail_more--;
            m->fail_in = 1;
        }
        return m->fail_err;
    }
    switch (r->op) {
    case BLK_READ:
        memblk_reserve(m, max_u64(m->size, min_u64(r->off, m->size)));
        for (uint64_t at = 0; at < r->len;) {
            uint8_t zeros[MEMBLK_SECTOR] = { 0 };
            uint64_t off = r->off + at, n = min_u64(r->len - at, sizeof(zeros));

            if (off < m->size)
                n = min_u64(n, m->size - off);
            iov_copy_to(r->iov, (unsigned)r->niov, at, off < m->size ? m->data + off : zeros, n);
            at += n;
        }
        break;
    case BLK_WRITE:
        if (m->limit && r->off + r->len > m->limit)
            return -ENOSPC;
        memblk_reserve(m, r->off + r->len);
        iov_copy_from(r->iov, (unsigned)r->niov, 0, m->data + r->off, r->len);
        break;
    case BLK_DISCARD:
    case BLK_WRITE_ZEROES:
        if (r->off < m->size)
            memset(m->data + r->off, 0, min_u64(r->len, m->size - r->off));
        break;
    case BLK_FLUSH:
        break;
    }
    return 0;
}

/* One of the queue, taken out of it. */
static struct blk_req *memblk_pick(struct memblk *m)
{
    struct blk_req **at = &m->queue, *r;
    unsigned n = 0, which;

    for (r = m->queue; r; r = r->next)
        n++;
    which = m->rng ? (unsigned)(memblk_random(&m->rng) % n) : n - 1;
    while (which--)
        at = &(*at)->next;
    r = *at;
    *at = r->next;
    return r;
}

static void memblk_wait(struct blk *b)
{
    struct memblk *m = b->priv;
    struct blk_req *r;
    int err;

    pthread_mutex_lock(&m->lock);
    while (!m->queue)
        pthread_cond_wait(&m->cond, &m->lock);
    r = memblk_pick(m);
    err = memblk_do(m, r);
    if (m->recording && r->op != BLK_READ)
        memblk_note(m, EV_DONE, r)->failed = err != 0;
    pthread_mutex_unlock(&m->lock);
    blk_done(r, err);
}

static int memblk_open_ops(struct blk *b, const struct blk_opts *o, struct err *e)
{
    (void)o;
    (void)e;
    b->grows = true;
    return 0;
}

static const struct blk_ops memblk_ops = {
    .format = "memory",
    .open = memblk_open_ops,
    .submit = memblk_submit,
    .wait = memblk_wait,
};

struct blk *memblk_open(struct memblk *m, const struct blk_opts *o)
{
    struct blk *b = blk_open_driver(&memblk_ops, NULL, o, NULL);

    BUG_ON(!b);
    b->priv = m;
    b->size = m->size;
    return b;
}

struct blk *memblk_open_image(struct memblk *m, const struct blk_ops *ops, const struct blk_opts *o,
                              struct err *e)
{
    struct blk *child = memblk_open(m, o), *b = blk_open_driver(ops, child, o, e);

    if (!b)
        blk_close(child);
    return b;
}

/* --- cuts --- */

static void memblk_apply(struct memblk *m, const struct memblk_event *e, uint64_t off, uint64_t len)
{
    if (e->op == BLK_WRITE) {
        memblk_reserve(m, off + len);
        memcpy(m->data + off, e->data + (off - e->off), len);
    } else if (off < m->size) {
        memset(m->data + off, 0, min_u64(len, m->size - off));
    }
}

/* Chance decides for the whole of it, or for each sector. */
static void memblk_apply_maybe(struct memblk *m, const struct memblk_event *e, uint64_t *rng,
                               unsigned odds)
{
    uint64_t end = e->off + e->len, next;

    if (memblk_random(rng) % 4) {
        if (memblk_random(rng) % 100 < odds)
            memblk_apply(m, e, e->off, e->len);
        return;
    }
    for (uint64_t at = e->off; at < end; at = next) {
        next = min_u64(end, align_down(at, MEMBLK_SECTOR) + MEMBLK_SECTOR);
        if (memblk_random(rng) % 100 < odds)
            memblk_apply(m, e, at, next - at);
    }
}

/* safe[id]: on stable storage at `at`: ended before a flush was submitted that has ended. */
static void memblk_find_safe(const struct memblk *m, unsigned at, bool *safe)
{
    bool *done = calloc(m->n_ids + 1, 1), *at_flush = calloc(m->n_ids + 1, 1);
    unsigned *flush_at = calloc(m->n_ids + 1, sizeof(unsigned));

    BUG_ON(!done || !at_flush || !flush_at);
    for (unsigned i = 0; i < at; i++) {
        const struct memblk_event *e = &m->ev[i];

        if (e->op == BLK_FLUSH && e->kind == EV_SUBMIT)
            flush_at[e->id] = i;
        else if (e->op == BLK_FLUSH && !e->failed)
            for (unsigned j = 0; j < flush_at[e->id]; j++)
                safe[m->ev[j].id] =
                    safe[m->ev[j].id] || (m->ev[j].kind == EV_DONE && !m->ev[j].failed);
        else if (e->kind == EV_DONE && e->fua && !e->failed)
            safe[e->id] = true;
    }
    free(done);
    free(at_flush);
    free(flush_at);
}

struct memblk *memblk_cut(struct memblk *m, unsigned at, uint64_t seed)
{
    static const unsigned odds_of[] = { 0, 20, 50, 80, 100 };
    struct memblk *out = memblk_new();
    bool *safe = calloc(m->n_ids + 1, 1);
    uint64_t rng = seed | 1;
    unsigned odds;

    BUG_ON(!safe);
    memblk_random(&rng);
    odds = odds_of[memblk_random(&rng) % ARRAY_SIZE(odds_of)];
    memblk_reserve(out, m->base_size);
    memcpy(out->data, m->base, m->base_size);
    memblk_find_safe(m, at, safe);
    for (unsigned i = 0; i < at; i++) {
        const struct memblk_event *e = &m->ev[i];

        if (e->kind != EV_SUBMIT || e->op == BLK_FLUSH)
            continue;
        if (safe[e->id])
            memblk_apply(out, e, e->off, e->len);
        else
            memblk_apply_maybe(out, e, &rng, odds);
    }
    free(safe);
    return out;
}
