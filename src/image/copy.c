/*
 * copy.c: see copy.h. The thread of the loop finds out what there is (copy_map.h), a window at a time, and
 * serves the disks' requests; workers take chunks of the target in ascending order:
 *
 *     claim  under the lock: the next chunk, and its number
 *     read, look for zeros, pack                          all at once
 *     place  in the order of the numbers                  one at a time
 *     store                                               all at once
 *
 * Locking: `lock` guards the cursor, the turn and the counts; the map changes only while no worker works.
 */
#include "image/copy.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "image/copy_map.h"
#include "image/disk_io.h"

enum { COPY_POLL_MS = 100, COPY_PACKED_LOOK = 64 /* extents */ };

struct copy {
    struct blk *const *disk;
    struct out *out;
    const struct copy_opts *opts;
    struct copy_result *result;
    struct copy_map map;
    uint64_t total, started_ns;
    struct loop_work wake;

    pthread_mutex_t lock;
    pthread_cond_t window; /* there is one, or it is over */
    pthread_cond_t turn;
    unsigned next;            /* extent of the window */
    uint64_t next_off;        /* in it */
    uint64_t claimed, placed; /* numbers of chunks */
    unsigned busy;            /* workers with a chunk */
    bool open, over;          /* a window may be taken from; there is no more */
    uint64_t pos;             /* for the progress */
    int err;
    const char *doing; /* that failed */
    uint64_t err_off;
};

struct copy_worker {
    struct copy *copy;
    pthread_t thread;
    struct out_chunk chunk;
    uint8_t *packed; /* what the disk has packed, as it is read */
    uint32_t packed_room;
    uint64_t number;
    uint64_t zero_off, zero_len; /* instead of a chunk */
    unsigned from, to;           /* extents that the chunk touches */
};

/* --- what to do next --- */

/* A range of zeros: no chunk, but up to the next chunk's border it keeps its turn. Lock held. */
static void copy_claim_zeros(struct copy *c, struct copy_worker *w, const struct copy_extent *x)
{
    w->zero_off = c->next_off;
    w->zero_len = x->off + x->len - c->next_off;
    c->next_off += w->zero_len;
    c->next++;
}

/* The chunk at the cursor, up to its end or that of the disk. Lock held. */
static void copy_claim_chunk(struct copy *c, struct copy_worker *w)
{
    uint64_t start = align_down(c->next_off, c->out->chunk);
    uint64_t end = min_u64(start + c->out->chunk, align_up(c->out->size, BLK_SECTOR));

    w->chunk.off = start;
    w->chunk.len = (uint32_t)(end - start);
    w->from = c->next;
    while (c->next < c->map.n && c->map.extent[c->next].off < end) {
        const struct copy_extent *x = &c->map.extent[c->next];

        c->next_off = end;
        if (x->off + x->len > end)
            break;
        c->next++;
    }
    w->to = c->next < c->map.n && c->map.extent[c->next].off < end ? c->next + 1 : c->next;
}

/* false: the window is empty. Lock held. */
static bool copy_claim(struct copy *c, struct copy_worker *w)
{
    const struct copy_extent *x;

    if (c->err || c->next == c->map.n)
        return false;
    x = &c->map.extent[c->next];
    c->next_off = max_u64(c->next_off, x->off);
    w->zero_len = 0;
    w->number = c->claimed++;
    if (x->zero && x->off + x->len - c->next_off >= c->out->chunk && !(c->next_off % c->out->chunk))
        copy_claim_zeros(c, w, x);
    else
        copy_claim_chunk(c, w);
    c->pos = c->next_off;
    c->busy++;
    return true;
}

/* Waits for something to do; false: the work is over. */
static bool copy_get(struct copy *c, struct copy_worker *w)
{
    bool got = false;

    pthread_mutex_lock(&c->lock);
    while (!c->over && !(c->open && (got = copy_claim(c, w))))
        pthread_cond_wait(&c->window, &c->lock);
    pthread_mutex_unlock(&c->lock);
    return got;
}

static void copy_put(struct copy *c, const struct copy_worker *w, int err, const char *doing)
{
    pthread_mutex_lock(&c->lock);
    if (err && !c->err) {
        c->err = err;
        c->doing = doing;
        c->err_off = w->chunk.off;
        pthread_cond_broadcast(&c->turn);
    }
    if (!--c->busy && (c->err || c->next == c->map.n))
        loop_post(c->opts->loop, &c->wake);
    pthread_mutex_unlock(&c->lock);
}

/* --- one chunk --- */

static int copy_pread(int fd, uint8_t *buf, uint64_t len, uint64_t off)
{
    while (len) {
        ssize_t n = pread(fd, buf, len, (off_t)off);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (!n) { /* the file's last sector is not whole */
            memset(buf, 0, len);
            return 0;
        }
        buf += n;
        off += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

/* The whole of extent x, which is packed, into buf. */
static int copy_unpack(struct copy_worker *w, const struct copy_extent *x, uint8_t *buf)
{
    const struct blk_extent whole = { .len = x->len,
                                      .layer = x->layer,
                                      .host_off = x->host_off,
                                      .packed_len = x->packed_len,
                                      .packer = x->packer };
    int rc;

    if (w->packed_room < x->packed_len) {
        free(w->packed);
        w->packed = malloc(x->packed_len);
        w->packed_room = w->packed ? x->packed_len : 0;
    }
    if (!w->packed)
        return -ENOMEM;
    rc = copy_pread(x->fd, w->packed, x->packed_len, x->host_off);
    return rc ? rc : x->packer->ops->unpack(x->packer, &whole, w->packed, buf);
}

/* [off, off + len) of extent x into buf. */
static int copy_read_extent(struct copy_worker *w, const struct copy_extent *x, uint64_t off,
                            uint8_t *buf, uint64_t len)
{
    struct copy *c = w->copy;
    struct iovec iov = { buf, len };
    struct blk_req r = { .op = BLK_READ, .len = len, .iov = &iov, .niov = 1 };

    if (x->zero) {
        memset(buf, 0, len);
        return 0;
    }
    if (x->fd >= 0 && x->packed_len && len == x->len)
        return copy_unpack(w, x, buf);
    if (x->fd >= 0 && !x->packed_len)
        return copy_pread(x->fd, buf, len, x->host_off + (off - x->off));
    r.off = off - c->map.start[x->disk] + c->map.skip;
    return disk_io_wait(c->disk[x->disk], &r);
}

/* Sector by sector around what cannot be read. */
static void copy_salvage(struct copy_worker *w, const struct copy_extent *x, uint64_t off,
                         uint8_t *buf, uint64_t len)
{
    struct copy *c = w->copy;

    for (uint64_t at = 0; at < len; at += BLK_SECTOR) {
        uint64_t n = min_u64(BLK_SECTOR, len - at);

        if (!copy_read_extent(w, x, off + at, buf + at, n))
            continue;
        memset(buf + at, 0, n);
        pthread_mutex_lock(&c->lock);
        c->result->salvaged += n;
        pthread_mutex_unlock(&c->lock);
    }
}

/* Units of an overlay's target are whole, also where only a part of them is the source's own. */
static int copy_read_overlay(struct copy *c, struct copy_worker *w)
{
    struct iovec iov = { w->chunk.data, min_u64(w->chunk.len, c->total - w->chunk.off) };
    struct blk_req r = {
        .op = BLK_READ, .off = w->chunk.off, .len = iov.iov_len, .iov = &iov, .niov = 1
    };
    uint32_t unit = c->out->unit;

    for (unsigned i = w->from; i < w->to; i++) {
        const struct copy_extent *x = &c->map.extent[i];
        uint64_t from = max_u64(x->off, r.off), to = min_u64(x->off + x->len, r.off + r.len);

        memset(w->chunk.used + (from - r.off) / unit, 1,
               (to - r.off + unit - 1) / unit - (from - r.off) / unit);
    }
    return disk_io_wait(c->disk[0], &r);
}

/* Fills the chunk and tells which units have data at all. */
static int copy_read(struct copy *c, struct copy_worker *w)
{
    uint64_t start = w->chunk.off, pos = start, end = start + w->chunk.len;
    uint32_t unit = c->out->unit;

    memset(w->chunk.used, 0, (w->chunk.len + unit - 1) / unit);
    if (c->opts->top_only)
        return copy_read_overlay(c, w);
    for (unsigned i = w->from; i < w->to; i++) {
        const struct copy_extent *x = &c->map.extent[i];
        uint64_t from = max_u64(x->off, start), to = min_u64(x->off + x->len, end);
        int rc;

        memset(w->chunk.data + (pos - start), 0, from - pos);
        rc = copy_read_extent(w, x, from, w->chunk.data + (from - start), to - from);
        if (rc && c->opts->salvage)
            copy_salvage(w, x, from, w->chunk.data + (from - start), to - from);
        else if (rc)
            return rc;
        if (!x->zero || c->out->allocate)
            memset(w->chunk.used + (from - start) / unit, 1,
                   (to - start + unit - 1) / unit - (from - start) / unit);
        pos = to;
    }
    memset(w->chunk.data + (pos - start), 0, align_up(w->chunk.len, unit) - (pos - start));
    return 0;
}

static bool copy_is_zero(const uint8_t *p, size_t n)
{
    uint64_t head[2];

    memcpy(head, p, sizeof(head));
    if (head[0] | head[1])
        return false;
    return !memcmp(p, p + sizeof(head), n - sizeof(head));
}

/* Which units are written. false: none. */
static bool copy_find_used(const struct copy *c, struct copy_worker *w, uint64_t *bytes)
{
    uint32_t unit = c->out->unit, n = (w->chunk.len + unit - 1) / unit;

    *bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (c->out->allocate)
            w->chunk.used[i] = true;
        else if (w->chunk.used[i] && c->opts->sparse && !c->opts->top_only)
            w->chunk.used[i] = !copy_is_zero(w->chunk.data + (size_t)i * unit, unit);
        *bytes += w->chunk.used[i] ? unit : 0;
    }
    return *bytes;
}

static int copy_place(struct copy *c, struct copy_worker *w, bool any)
{
    int rc = 0;

    pthread_mutex_lock(&c->lock);
    while (c->placed != w->number && !c->err)
        pthread_cond_wait(&c->turn, &c->lock);
    if (c->err)
        rc = -ECANCELED;
    pthread_mutex_unlock(&c->lock);
    if (!rc && any && c->out->ops->place)
        rc = c->out->ops->place(c->out, &w->chunk);
    pthread_mutex_lock(&c->lock);
    c->placed++;
    pthread_cond_broadcast(&c->turn);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

static void copy_count(struct copy *c, const struct copy_worker *w, uint64_t written)
{
    pthread_mutex_lock(&c->lock);
    c->result->read += w->chunk.len;
    c->result->written += written;
    pthread_mutex_unlock(&c->lock);
}

static int copy_one(struct copy *c, struct copy_worker *w, const char **doing)
{
    struct out *o = c->out;
    uint64_t bytes = 0;
    bool any = false;
    int rc = 0;

    *doing = "written";
    if (w->zero_len) {
        rc = o->ops->zero(o, w->zero_off, w->zero_len);
        w->chunk.off = w->zero_off;
    } else {
        rc = copy_read(c, w);
        if (rc)
            *doing = "read";
        any = !rc && copy_find_used(c, w, &bytes);
        if (any && o->ops->pack)
            rc = o->ops->pack(o, &w->chunk);
    }
    if (o->ops->place && !rc) /* also without data: others wait for this one's turn */
        rc = copy_place(c, w, any);
    if (!rc && !w->zero_len && (any || o->wants_zeros))
        rc = o->ops->store(o, &w->chunk);
    if (!rc && !w->zero_len)
        copy_count(c, w, bytes);
    return rc;
}

/* Sleeps as long as we are ahead of the rate. */
static void copy_brake(const struct copy *c, uint64_t off)
{
    uint64_t due, now = util_monotonic_ns();

    if (!c->opts->rate)
        return;
    due = c->started_ns + (uint64_t)((uint128)off * 1000000000u / c->opts->rate);
    if (due > now)
        usleep((useconds_t)min_u64((due - now) / 1000, 10000000));
}

static void *copy_work(void *opaque)
{
    struct copy_worker *w = opaque;
    struct copy *c = w->copy;

    while (copy_get(c, w)) {
        const char *doing;
        int rc = copy_one(c, w, &doing);

        copy_put(c, w, rc == -ECANCELED ? 0 : rc, doing);
        copy_brake(c, w->chunk.off + w->chunk.len);
    }
    return NULL;
}

/* --- workers --- */

static void copy_worker_fini(struct copy_worker *w)
{
    const struct out_ops *ops = w->copy->out->ops;

    free(w->packed);
    free(w->chunk.data);
    free(w->chunk.used);
    free(w->chunk.packed);
    free(w->chunk.packed_at);
    free(w->chunk.packed_len);
    free(w->chunk.place);
    if (w->chunk.scratch)
        ops->scratch_free(w->chunk.scratch);
}

static int copy_worker_init(struct copy *c, struct copy_worker *w)
{
    const struct out *o = c->out;
    size_t units = o->chunk / o->unit;
    struct out_chunk *k = &w->chunk;

    w->copy = c;
    k->data = aligned_alloc(PAGE_SIZE, align_up(o->chunk, PAGE_SIZE));
    k->used = calloc(units, sizeof(*k->used));
    k->place = calloc(units, sizeof(*k->place));
    if (o->packed_room) {
        k->packed = malloc(o->packed_room);
        k->packed_at = calloc(units, sizeof(*k->packed_at));
        k->packed_len = calloc(units, sizeof(*k->packed_len));
    }
    if (o->ops->scratch)
        k->scratch = o->ops->scratch(o);
    if (k->data && k->used && k->place && (!o->ops->scratch || k->scratch) &&
        (!o->packed_room || (k->packed && k->packed_at && k->packed_len)) &&
        !pthread_create(&w->thread, NULL, copy_work, w))
        return 0;
    copy_worker_fini(w);
    return -ENOMEM;
}

static void copy_awake(struct loop_work *w)
{
    (void)w; /* loop_poll() has returned: that is all */
}

/* Opens the window to the workers and serves the disks until it is done. */
static int copy_window(struct copy *c)
{
    bool done = false;

    pthread_mutex_lock(&c->lock);
    c->next = 0;
    c->next_off = c->map.extent[0].off;
    c->open = true;
    pthread_cond_broadcast(&c->window);
    pthread_mutex_unlock(&c->lock);
    while (!done) {
        uint64_t pos;

        loop_poll(c->opts->loop, COPY_POLL_MS);
        pthread_mutex_lock(&c->lock);
        done = !c->busy && (c->err || c->next == c->map.n);
        c->open = !done;
        pos = c->pos;
        pthread_mutex_unlock(&c->lock);
        if (c->opts->progress)
            c->opts->progress(c->opts->opaque, pos, c->total);
    }
    return c->err;
}

static int copy_tell(const struct copy *c, int rc, struct err *e)
{
    bool reading = !strcmp(c->doing, "read");

    return err_set(e, -rc, "%s '%s': byte %llu and what follows cannot be %s: %s",
                   reading ? "disk" : "image", reading ? c->disk[0]->path : c->out->opts->path,
                   (unsigned long long)c->err_off, c->doing, strerror(-rc));
}

static int copy_run(struct copy *c, struct err *e)
{
    int rc;

    for (;;) {
        rc = copy_map_next(&c->map, e);
        if (rc || !c->map.n)
            return rc;
        rc = copy_window(c);
        if (rc)
            return copy_tell(c, rc, e);
    }
}

static void copy_stop(struct copy *c, struct copy_worker *w, unsigned n)
{
    pthread_mutex_lock(&c->lock);
    c->over = true;
    pthread_cond_broadcast(&c->window);
    pthread_mutex_unlock(&c->lock);
    for (unsigned i = 0; i < n; i++) {
        pthread_join(w[i].thread, NULL);
        copy_worker_fini(&w[i]);
    }
    loop_unpost(c->opts->loop, &c->wake);
}

/* Are there compressed clusters near the beginning? It is only about how much memory is used. */
static bool copy_is_packed(struct blk *b)
{
    struct blk_extent x;

    for (uint64_t off = 0, i = 0; i < COPY_PACKED_LOOK && off < b->size; off += x.len, i++)
        if (blk_status(b, off, b->size - off, &x))
            return false;
        else if (x.flags & BLK_X_COMPRESSED)
            return true;
    return false;
}

int copy_disks(struct blk *const *disk, unsigned n, struct out *o, const struct copy_opts *opts,
               struct copy_result *result, struct err *e)
{
    struct copy c = { .disk = disk, .out = o, .opts = opts, .result = result };
    struct copy_worker w[COPY_WORKERS_MAX] = { 0 };
    unsigned started = 0;
    int rc;

    if (n && copy_is_packed(disk[0]))
        o->chunk = (uint32_t)max_u64(o->unit, OUT_CHUNK_PACKED);
    rc = copy_map_init(&c.map, disk, n, o->chunk, e);
    *result = (struct copy_result){ 0 };
    if (rc)
        return rc;
    c.map.zeros = o->wants_zeros;
    c.map.top_only = opts->top_only;
    if (opts->skip || opts->length)
        copy_map_piece(&c.map, opts->skip, opts->length);
    c.total = c.map.start[n];
    c.started_ns = util_monotonic_ns();
    c.wake.call = copy_awake;
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.window, NULL);
    pthread_cond_init(&c.turn, NULL);
    while (started < opts->workers && !copy_worker_init(&c, &w[started]))
        started++;
    rc = started ? copy_run(&c, e) : err_set(e, ENOMEM, "no thread can be started");
    copy_stop(&c, w, started);
    pthread_cond_destroy(&c.window);
    pthread_cond_destroy(&c.turn);
    pthread_mutex_destroy(&c.lock);
    copy_map_fini(&c.map);
    return rc;
}
