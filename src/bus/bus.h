/*
 * bus.h: an address space of devices (port I/O or MMIO): who answers at an address.
 *
 * Threads: bus_read/bus_write from any vCPU thread, concurrently; claims and releases may happen at the
 * same time (a guest moving a BAR), also from inside an access to another device.
 */
#ifndef BUS_BUS_H
#define BUS_BUS_H

#include "bus/device.h"

enum {
    IO_UNALIGNED = 0x80
};              /* or'ed to max_size: an access reaches the device at any offset whole */
struct io_ops { /* no read: all ones; no write: dropped */
    uint64_t (*read)(struct device *d, uint64_t off, unsigned size);
    void (*write)(struct device *d, uint64_t off, unsigned size, uint64_t val);
    uint8_t min_size, max_size; /* wider: split; narrower: reads extract, writes drop. 0: 1 and 8 */
};

struct bus_range {
    uint64_t base, len;
    const struct io_ops *ops;
    struct device *dev;
};
struct bus {
    pthread_rwlock_t lock;
    struct bus_range *range; /* sorted by base */
    unsigned n, cap;
};

void bus_init(struct bus *b);
void bus_fini(struct bus *b);
/* [base, base+len) goes to ops with offsets from base. -EEXIST and a sentence if part of it is taken. */
must_check int bus_claim(struct bus *b, uint64_t base, uint64_t len, const struct io_ops *ops,
                         struct device *d, struct err *e);
void bus_release(struct bus *b, struct device *d);                   /* all of d's ranges */
void bus_release_at(struct bus *b, struct device *d, uint64_t base); /* the one that starts there */
/* size 1 to 8, any alignment; nobody there: reads all ones. Takes the device's lock around its ops. */
void bus_read(struct bus *b, uint64_t addr, unsigned size, void *data);
void bus_write(struct bus *b, uint64_t addr, unsigned size, const void *data);

#endif
