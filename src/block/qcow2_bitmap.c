/*
 * qcow2_bitmap.c: dirty bitmaps while an image is open for writing: see qcow2_bitmap.h.
 *
 * What changed is stored beside what the file has: bits, tables, directory; flush; then one sector of the header
 * names the new directory, and what the old one had is given back. Only flags are written in place.
 */
#include "block/qcow2_bitmap.h"

#include <errno.h>
#include <string.h>

#include "base/bitmap.h"

#define BITMAP_MEMORY (256ull * MIB) /* of all of a disk's bitmaps */

void qcow2_bitmap_free(struct qcow2_bitmap *m)
{
    free(m->name);
    free(m->extra);
    free(m->bits);
    *m = (struct qcow2_bitmap){ 0 };
}

void qcow2_bitmap_fini(struct qcow2 *q)
{
    if (q->bitmaps)
        qcow2_bitmap_dir_unload(q->bitmaps);
    free(q->bitmaps);
    q->bitmaps = NULL;
}

/* --- bits in memory --- */

static uint64_t bitmap_bits(const struct qcow2_bitmap *m, uint64_t size)
{
    return align_up(size, BIT64(m->grain_bits)) >> m->grain_bits;
}

bool qcow2_bitmap_fits(const struct qcow2 *q, uint64_t bits)
{
    uint64_t bytes = bits / 8;

    for (uint32_t i = 0; q->bitmaps && i < q->bitmaps->n; i++)
        bytes += q->bitmaps->v[i].bits ? q->bitmaps->v[i].n / 8 : 0;
    return bytes <= BITMAP_MEMORY;
}

static void bitmap_clear_tail(struct qcow2_bitmap *m)
{
    if (m->n % 64)
        m->bits[m->n / 64] &= BIT64(m->n % 64) - 1;
}

void qcow2_bitmap_set(struct qcow2_bitmap *m, uint64_t first, uint64_t last)
{
    uint64_t from = first / 64, to = last / 64;
    uint64_t head = UINT64_MAX << (first % 64), tail = UINT64_MAX >> (63 - last % 64);

    m->changed = true;
    if (from == to) {
        m->bits[from] |= head & tail;
        return;
    }
    m->bits[from] |= head;
    memset(m->bits + from + 1, 0xff, (to - from - 1) * sizeof(*m->bits));
    m->bits[to] |= tail;
}

static bool bitmap_records(const struct qcow2_bitmap *m)
{
    return m->bits && !m->broken && (m->flags & QCOW2_BITMAP_AUTO);
}

void qcow2_bitmap_count_recording(struct qcow2 *q)
{
    q->bitmaps->recording = false;
    for (uint32_t i = 0; i < q->bitmaps->n; i++)
        q->bitmaps->recording = q->bitmaps->recording || bitmap_records(&q->bitmaps->v[i]);
}

void qcow2_bitmap_record(struct qcow2 *q, uint64_t off, uint64_t len)
{
    if (!q->bitmaps->recording || !len)
        return;
    for (uint32_t i = 0; i < q->bitmaps->n; i++) {
        struct qcow2_bitmap *m = &q->bitmaps->v[i];
        uint64_t first = off >> m->grain_bits;

        if (bitmap_records(m) && first < m->n)
            qcow2_bitmap_set(m, first, min_u64((off + len - 1) >> m->grain_bits, m->n - 1));
    }
}

void qcow2_bitmap_set_all(struct qcow2 *q)
{
    qcow2_bitmap_record(q, 0, q->b->size);
}

/* --- from the file --- */

/* The bytes of the bits that cluster i of the bitmap has. */
static uint64_t bitmap_piece(const struct qcow2 *q, const struct qcow2_bitmap *m, uint64_t i)
{
    return min_u64(q->cluster_size, (m->n + 7) / 8 - (i << q->cluster_bits));
}

static int bitmap_load_cluster(struct qcow2 *q, struct qcow2_bitmap *m, uint64_t i, uint64_t entry)
{
    uint8_t *to = (uint8_t *)m->bits + (i << q->cluster_bits);
    uint64_t len = bitmap_piece(q, m, i), off = entry & QCOW2_OFFSET;

    if ((entry & ~(QCOW2_OFFSET | 1)) || (off && (entry & 1)) || qcow2_in_cluster(q, off) ||
        (off && (off >= q->file->size || len > q->file->size - off)))
        return -EINVAL;
    if (off)
        return qcow2_meta_read(q, off, to, len);
    memset(to, entry & 1 ? 0xff : 0, len);
    return 0;
}

static int bitmap_load_all(struct qcow2 *q, struct qcow2_bitmap *m)
{
    uint64_t *table = malloc(m->table_n * 8ull + 1);
    int rc = table ? qcow2_table_read(q, m->table_off, m->table_n, table) : -ENOMEM;

    for (uint32_t i = 0; !rc && i < m->table_n; i++)
        rc = bitmap_load_cluster(q, m, i, table[i]);
    free(table);
    return rc;
}

int qcow2_bitmap_load(struct qcow2 *q, struct qcow2_bitmap *m)
{
    int rc;

    if (m->bits)
        return 0;
    m->n = bitmap_bits(m, q->b->size);
    if (!qcow2_bitmap_fits(q, m->n))
        return -EFBIG;
    m->bits = calloc(bitmap_words(m->n) + 1, sizeof(*m->bits));
    rc = m->bits ? bitmap_load_all(q, m) : -ENOMEM;
    if (!rc) {
        bitmap_clear_tail(m);
        return 0;
    }
    free(m->bits);
    m->bits = NULL;
    return rc;
}

/* --- flags --- */

/* The directory in place: nothing but its flags is another. */
static int bitmap_write_flags(struct qcow2 *q)
{
    uint64_t len;
    uint8_t *dir = qcow2_bitmap_dir_encode(q->bitmaps, &len);
    int rc = !dir ? -ENOMEM : len != q->h.bitmaps.dir_size ? -EINVAL : 0;

    if (!rc)
        rc = qcow2_meta_write(q, q->h.bitmaps.dir_off, dir, len);
    if (!rc)
        rc = qcow2_meta_flush(q);
    free(dir);
    return rc;
}

/* all: also those that do not record. */
static int bitmap_mark(struct qcow2 *q, bool all)
{
    bool any = false;

    for (uint32_t i = 0; i < q->bitmaps->n; i++) {
        struct qcow2_bitmap *m = &q->bitmaps->v[i];

        if ((m->flags & QCOW2_BITMAP_IN_USE) || (!all && !(m->flags & QCOW2_BITMAP_AUTO)))
            continue;
        m->flags |= QCOW2_BITMAP_IN_USE;
        any = true;
    }
    return any ? bitmap_write_flags(q) : 0;
}

static int bitmap_begin(struct qcow2 *q)
{
    int rc = 0;

    for (uint32_t i = 0; !rc && i < q->bitmaps->n; i++) {
        struct qcow2_bitmap *m = &q->bitmaps->v[i];

        m->broken = (m->flags & QCOW2_BITMAP_IN_USE) || !qcow2_bitmap_sound(q, m);
        if (!m->broken && (m->flags & QCOW2_BITMAP_AUTO))
            rc = qcow2_bitmap_load(q, m);
        if (rc == -EINVAL) {
            m->broken = true;
            rc = 0;
        }
        if (m->broken)
            log_warn("block",
                     "disk '%s': its bitmap '%s' is inconsistent, because it was not stored: it "
                     "records nothing; `ruche image bitmap --remove` removes it",
                     q->b->path, m->name);
    }
    qcow2_bitmap_count_recording(q);
    return rc ? rc : bitmap_mark(q, false);
}

int qcow2_bitmap_begin_writing(struct qcow2 *q, struct err *e)
{
    int rc;

    q->bitmaps = calloc(1, sizeof(*q->bitmaps));
    rc = q->bitmaps ? qcow2_bitmap_dir_load(q, q->bitmaps) : -ENOMEM;
    if (rc == -EINVAL)
        return err_set(e, EINVAL,
                       "disk '%s': its bitmaps are damaged; `ruche image convert` makes an image "
                       "without them",
                       q->b->path);
    if (!rc)
        rc = bitmap_begin(q);
    if (rc == -EFBIG)
        return err_set(e, EFBIG,
                       "disk '%s': its bitmaps need more than %llu MiB of memory; `ruche image "
                       "convert` makes an image without them",
                       q->b->path, BITMAP_MEMORY / MIB);
    return rc ? err_set(e, -rc, "disk '%s': its bitmaps cannot be marked as in use: %s", q->b->path,
                        strerror(-rc))
              : 0;
}

/* --- to the file --- */

struct bitmap_plan { /* what one bitmap will have */
    uint64_t *table, off;
    uint32_t n;
};
struct bitmap_store {
    struct qcow2 *q;
    struct bitmap_plan *plans; /* of each bitmap; no table: it stays where it is */
    struct qcow2_frees taken, dropped;
    struct qcow2_header old; /* the numbers of it */
    uint8_t *dir;
    uint64_t dir_len, dir_off;
};

/* Without memory the space is lost until the next check. */
static void bitmap_note(struct qcow2_frees *f, uint64_t off, uint64_t len)
{
    if (f->n == f->room) {
        size_t room = f->room ? 2 * f->room : 16;
        struct qcow2_free *v = realloc(f->v, room * sizeof(*v));

        if (!v)
            return;
        f->v = v;
        f->room = room;
    }
    f->v[f->n++] = (struct qcow2_free){ off, len };
}

static void bitmap_give_back(struct qcow2 *q, struct qcow2_frees *f)
{
    pthread_mutex_lock(&q->lock);
    for (size_t i = 0; i < f->n; i++)
        qcow2_refcount_free_later(q, f->v[i].off, align_up(f->v[i].len, q->cluster_size));
    pthread_mutex_unlock(&q->lock);
    free(f->v);
    *f = (struct qcow2_frees){ 0 };
}

void qcow2_bitmap_drop(struct qcow2 *q, const struct qcow2_bitmap *m, struct qcow2_frees *gone)
{
    uint64_t len = m->table_n * 8ull, *table;

    if (!len || len > QCOW2_MAX_L1 || qcow2_in_cluster(q, m->table_off) ||
        !qcow2_map_sane(q, m->table_off, len) || m->table_off + len > q->file->size)
        return;
    table = malloc(len);
    if (table && !qcow2_table_read(q, m->table_off, m->table_n, table))
        for (uint32_t i = 0; i < m->table_n; i++) {
            uint64_t off = table[i] & QCOW2_OFFSET;

            if (off && !qcow2_in_cluster(q, off) && qcow2_map_sane(q, off, q->cluster_size))
                bitmap_note(gone, off, q->cluster_size);
        }
    if (table)
        bitmap_note(gone, m->table_off, len);
    free(table);
}

static int store_alloc(struct bitmap_store *s, uint64_t len, uint64_t *off)
{
    struct qcow2 *q = s->q;
    int rc = qcow2_alloc_row(q, align_up(len, q->cluster_size) >> q->cluster_bits, off);

    if (!rc)
        bitmap_note(&s->taken, *off, len);
    return rc;
}

static bool bitmap_all(const uint8_t *p, uint64_t len, uint8_t byte)
{
    return *p == byte && !memcmp(p, p + 1, len - 1);
}

/* Places for the clusters of a bitmap that are neither all clear nor all set, and for its table. */
static int store_plan(struct bitmap_store *s, const struct qcow2_bitmap *m, struct bitmap_plan *p)
{
    struct qcow2 *q = s->q;
    int rc = 0;

    p->n = (uint32_t)qcow2_bitmap_clusters(q, m, q->b->size);
    p->table = calloc((size_t)p->n + 1, sizeof(*p->table));
    if (!p->table)
        return -ENOMEM;
    for (uint32_t i = 0; !rc && i < p->n; i++) {
        const uint8_t *bits = (const uint8_t *)m->bits + ((uint64_t)i << q->cluster_bits);
        uint64_t len = bitmap_piece(q, m, i);

        if (len == q->cluster_size && bitmap_all(bits, len, 0xff))
            p->table[i] = 1;
        else if (!bitmap_all(bits, len, 0))
            rc = store_alloc(s, q->cluster_size, &p->table[i]);
    }
    if (!rc && p->n)
        rc = store_alloc(s, p->n * 8ull, &p->off);
    if (!rc)
        qcow2_bitmap_drop(q, m, &s->dropped);
    return rc;
}

static int store_write(struct bitmap_store *s, const struct qcow2_bitmap *m,
                       const struct bitmap_plan *p)
{
    struct qcow2 *q = s->q;
    uint8_t *buf = malloc(q->cluster_size);
    int rc = buf ? 0 : -ENOMEM;

    for (uint32_t i = 0; !rc && i < p->n; i++) {
        uint64_t len = bitmap_piece(q, m, i);

        if (!(p->table[i] & QCOW2_OFFSET))
            continue;
        memset(buf, 0, q->cluster_size);
        memcpy(buf, (const uint8_t *)m->bits + ((uint64_t)i << q->cluster_bits), len);
        rc = qcow2_meta_write(q, p->table[i], buf, q->cluster_size);
    }
    free(buf);
    return !rc && p->n ? qcow2_table_write(q, p->off, p->n, p->table) : rc;
}

/* The directory as it will be; the bitmaps in memory say the same from here on. */
static int store_dir(struct bitmap_store *s, bool stay)
{
    struct qcow2_bitmaps *list = s->q->bitmaps;
    int rc = 0;

    for (uint32_t i = 0; i < list->n; i++) {
        struct qcow2_bitmap *m = &list->v[i];

        if (!m->broken && stay && (m->flags & QCOW2_BITMAP_AUTO))
            m->flags |= QCOW2_BITMAP_IN_USE;
        else if (!m->broken)
            m->flags &= ~(uint32_t)QCOW2_BITMAP_IN_USE;
        if (!s->plans[i].table)
            continue;
        m->table_off = s->plans[i].off;
        m->table_n = s->plans[i].n;
    }
    s->dir = qcow2_bitmap_dir_encode(list, &s->dir_len);
    if (!s->dir)
        return -ENOMEM;
    if (s->dir_len)
        rc = store_alloc(s, s->dir_len, &s->dir_off);
    return rc;
}

static int store_header(struct bitmap_store *s)
{
    struct qcow2 *q = s->q;
    int rc;

    s->old = q->h;
    q->h.bitmaps.n = q->bitmaps->n;
    q->h.bitmaps.dir_size = s->dir_len;
    q->h.bitmaps.dir_off = s->dir_off;
    q->h.autoclear &= ~(uint64_t)QCOW2_A_BITMAPS;
    if (q->bitmaps->n)
        q->h.autoclear |= QCOW2_A_BITMAPS;
    rc = qcow2_table_write_header(q);
    if (rc) {
        q->h.bitmaps = s->old.bitmaps;
        q->h.autoclear = s->old.autoclear;
    } else if (s->old.bitmaps.n) {
        bitmap_note(&s->dropped, s->old.bitmaps.dir_off, s->old.bitmaps.dir_size);
    }
    return rc;
}

/* Everything that is new, beside what is there. */
static int store_prepare(struct bitmap_store *s, bool stay)
{
    struct qcow2_bitmaps *list = s->q->bitmaps;
    int rc = 0;

    for (uint32_t i = 0; !rc && i < list->n; i++)
        if (list->v[i].changed || (!list->v[i].table_off && list->v[i].bits))
            rc = store_plan(s, &list->v[i], &s->plans[i]);
    if (!rc)
        rc = store_dir(s, stay);
    if (!rc)
        rc = qcow2_meta_commit(s->q); /* their refcounts */
    for (uint32_t i = 0; !rc && i < list->n; i++)
        if (s->plans[i].table)
            rc = store_write(s, &list->v[i], &s->plans[i]);
    if (!rc && s->dir_len)
        rc = qcow2_meta_write(s->q, s->dir_off, s->dir, s->dir_len);
    return rc ? rc : qcow2_meta_flush(s->q);
}

static int bitmap_store_new(struct qcow2 *q, bool stay)
{
    struct qcow2_bitmaps *list = q->bitmaps;
    struct bitmap_store s = { .q = q,
                              .plans = calloc((size_t)list->n + 1, sizeof(*s.plans)),
                              .dropped = list->gone };
    int rc = s.plans ? store_prepare(&s, stay) : -ENOMEM;

    list->gone = (struct qcow2_frees){ 0 };
    if (!rc)
        rc = store_header(&s);
    if (!rc)
        bitmap_give_back(q, &s.dropped);
    for (uint32_t i = 0; i < list->n; i++) {
        list->v[i].changed = list->v[i].changed && rc;
        if (s.plans)
            free(s.plans[i].table);
    }
    list->other = list->other && rc;
    free(s.dropped.v);
    free(s.taken.v); /* after a failure the space is lost: the header may name it all the same */
    free(s.plans);
    free(s.dir);
    return rc;
}

/* Flags are all there is to change. */
static int bitmap_store_flags(struct qcow2 *q)
{
    bool any = false;

    for (uint32_t i = 0; i < q->bitmaps->n; i++) {
        struct qcow2_bitmap *m = &q->bitmaps->v[i];

        if (m->broken || !(m->flags & QCOW2_BITMAP_IN_USE))
            continue;
        m->flags &= ~(uint32_t)QCOW2_BITMAP_IN_USE;
        any = true;
    }
    return any ? bitmap_write_flags(q) : 0;
}

int qcow2_bitmap_store(struct qcow2 *q, bool stay)
{
    bool changed;

    if (!q->bitmaps)
        return 0;
    changed = q->bitmaps->other;
    for (uint32_t i = 0; i < q->bitmaps->n; i++)
        changed = changed || q->bitmaps->v[i].changed;
    if (changed)
        return bitmap_store_new(q, stay);
    return stay ? 0 : bitmap_store_flags(q);
}

/* --- another size --- */

int qcow2_bitmap_begin_resize(struct qcow2 *q)
{
    int rc = 0;

    for (uint32_t i = 0; !rc && i < q->bitmaps->n; i++)
        if (!q->bitmaps->v[i].broken)
            rc = qcow2_bitmap_load(q, &q->bitmaps->v[i]);
    return rc || !q->bitmaps->n ? rc : bitmap_mark(q, true);
}

int qcow2_bitmap_resize(struct qcow2 *q, uint64_t size)
{
    for (uint32_t i = 0; i < q->bitmaps->n; i++) {
        struct qcow2_bitmap *m = &q->bitmaps->v[i];
        uint64_t n = bitmap_bits(m, size), *bits;
        size_t words = bitmap_words(n), had = bitmap_words(m->n);

        if (!m->bits)
            continue;
        if (n > m->n && !qcow2_bitmap_fits(q, n - m->n))
            return -EFBIG;
        bits = calloc(words + 1, sizeof(*bits));
        if (!bits)
            return -ENOMEM;
        memcpy(bits, m->bits, (words < had ? words : had) * sizeof(*bits));
        pthread_mutex_lock(&q->lock);
        free(m->bits);
        m->bits = bits;
        m->n = n;
        bitmap_clear_tail(m);
        m->changed = true;
        pthread_mutex_unlock(&q->lock);
    }
    return 0;
}
