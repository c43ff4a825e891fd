/*
 * bus.c: see bus.h. The lock is held for look-ups only, never during a device's operation, so that a
 * device may move its own ranges from inside an access.
 */
#include "bus/bus.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"

void bus_init(struct bus *b)
{
    *b = (struct bus){ 0 };
    pthread_rwlock_init(&b->lock, NULL);
}

void bus_fini(struct bus *b)
{
    pthread_rwlock_destroy(&b->lock);
    free(b->range);
    b->range = NULL;
}

/* Index of the first range that ends after addr. */
static unsigned bus_search(const struct bus *b, uint64_t addr)
{
    unsigned lo = 0, hi = b->n;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;

        if (b->range[mid].base + (b->range[mid].len - 1) < addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool bus_grow(struct bus *b)
{
    unsigned cap = b->cap ? b->cap * 2 : 16;
    struct bus_range *range;

    if (b->n < b->cap)
        return true;
    range = realloc(b->range, cap * sizeof(*range));
    if (!range)
        return false;
    b->range = range;
    b->cap = cap;
    return true;
}

int bus_claim(struct bus *b, uint64_t base, uint64_t len, const struct io_ops *ops,
              struct device *d, struct err *e)
{
    unsigned at;
    int rc = 0;

    BUG_ON(!len || base + (len - 1) < base);
    pthread_rwlock_wrlock(&b->lock);
    at = bus_search(b, base);
    if (at < b->n && b->range[at].base <= base + (len - 1)) {
        rc = err_set(e, EEXIST, "%s: address %#llx is taken by %s", d->id, (unsigned long long)base,
                     b->range[at].dev->id);
    } else if (!bus_grow(b)) {
        rc = err_set(e, ENOMEM, "out of memory");
    } else {
        memmove(&b->range[at + 1], &b->range[at], (b->n - at) * sizeof(*b->range));
        b->range[at] = (struct bus_range){ base, len, ops, d };
        b->n++;
    }
    pthread_rwlock_unlock(&b->lock);
    return rc;
}

static void bus_release_if(struct bus *b, struct device *d, bool all, uint64_t base)
{
    unsigned kept = 0;

    pthread_rwlock_wrlock(&b->lock);
    for (unsigned i = 0; i < b->n; i++)
        if (b->range[i].dev != d || (!all && b->range[i].base != base))
            b->range[kept++] = b->range[i];
    b->n = kept;
    pthread_rwlock_unlock(&b->lock);
}

void bus_release(struct bus *b, struct device *d)
{
    bus_release_if(b, d, true, 0);
}

void bus_release_at(struct bus *b, struct device *d, uint64_t base)
{
    bus_release_if(b, d, false, base);
}

/*
 * The range that answers at addr, and in *len how much of the access falls to it (or to nobody: then
 * how much up to the next range).
 */
static bool bus_find(struct bus *b, uint64_t addr, unsigned *len, struct bus_range *out)
{
    bool found = false;
    unsigned at;

    pthread_rwlock_rdlock(&b->lock);
    at = bus_search(b, addr);
    if (at < b->n) {
        const struct bus_range *r = &b->range[at];

        if (r->base <= addr) {
            *out = *r;
            found = true;
            *len = (unsigned)min_u64(*len, r->base + (r->len - 1) - addr + 1);
        } else {
            *len = (unsigned)min_u64(*len, r->base - addr);
        }
    }
    pthread_rwlock_unlock(&b->lock);
    return found;
}

static unsigned bus_min(const struct io_ops *ops)
{
    return ops->min_size ? ops->min_size : 1;
}

static unsigned bus_max(const struct io_ops *ops)
{
    return ops->max_size ? ops->max_size & (IO_UNALIGNED - 1) : 8;
}

/* The largest natural piece of an access at off that the device takes at once. */
static unsigned bus_piece(const struct io_ops *ops, uint64_t off, unsigned len)
{
    unsigned n = bus_max(ops);

    while (n > 1 && (n > len || (!(ops->max_size & IO_UNALIGNED) && (off & (n - 1)))))
        n /= 2;
    return n;
}

static void bus_read_range(const struct bus_range *r, uint64_t off, unsigned len, uint8_t *data)
{
    while (len) {
        unsigned n = bus_piece(r->ops, off, len), min = bus_min(r->ops);
        uint64_t val = ~0ull;

        if (r->ops->read && n < min) { /* narrower than it likes: read the unit, extract */
            uint64_t unit = off & ~(uint64_t)(min - 1);

            val = r->ops->read(r->dev, unit, min) >> (8 * (off - unit));
        } else if (r->ops->read) {
            val = r->ops->read(r->dev, off, n);
        }
        __builtin_memcpy(data, &val, n);
        data += n;
        off += n;
        len -= n;
    }
}

static void bus_write_range(const struct bus_range *r, uint64_t off, unsigned len,
                            const uint8_t *data)
{
    while (len) {
        unsigned n = bus_piece(r->ops, off, len);
        uint64_t val = 0;

        memcpy(&val, data, n);
        if (r->ops->write && n >= bus_min(r->ops))
            r->ops->write(r->dev, off, n, val);
        data += n;
        off += n;
        len -= n;
    }
}

void bus_read(struct bus *b, uint64_t addr, unsigned size, void *data)
{
    uint8_t *p = data;

    while (size) {
        unsigned n = size;
        struct bus_range r;

        if (bus_find(b, addr, &n, &r)) {
            pthread_mutex_lock(&r.dev->lock);
            bus_read_range(&r, addr - r.base, n, p);
            pthread_mutex_unlock(&r.dev->lock);
        } else {
            memset(p, 0xff, n);
        }
        p += n;
        addr += n;
        size -= n;
    }
}

void bus_write(struct bus *b, uint64_t addr, unsigned size, const void *data)
{
    const uint8_t *p = data;

    while (size) {
        unsigned n = size;
        struct bus_range r;

        if (bus_find(b, addr, &n, &r)) {
            pthread_mutex_lock(&r.dev->lock);
            bus_write_range(&r, addr - r.base, n, p);
            pthread_mutex_unlock(&r.dev->lock);
        }
        p += n;
        addr += n;
        size -= n;
    }
}
