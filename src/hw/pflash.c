/*
 * pflash.c: Intel StrataFlash command set (Intel 297846), one byte wide, blocks of 4 KiB.
 *
 *   ff        read array                  70  read status       90  read identifiers
 *   10, 40 d  program: old AND d          50  clear status      98  read CFI query (JESD68)
 *   20 d0     erase the block             60 01|d0  lock, unlock: accepted, nothing is ever locked
 *   b0, d0    suspend, resume: nothing takes long enough
 *
 * After a clear the status reads 0, not 80 (ready): by that OVMF tells flash from RAM and ROM.
 * Not modelled: write buffers (the query says that there are none), protection registers.
 *
 * The file follows the array: bytes programmed one after the other are collected, and written when the
 * guest does anything else, above all when it ends programming or looks at the status.
 * Locking: the bus holds the device lock.
 */
#include "hw/pflash.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "mem/guest.h"

enum {
    CMD_PROGRAM = 0x10,
    CMD_ERASE = 0x20,
    CMD_PROGRAM_2 = 0x40,
    CMD_CLEAR_STATUS = 0x50,
    CMD_LOCK = 0x60,
    CMD_READ_STATUS = 0x70,
    CMD_READ_ID = 0x90,
    CMD_QUERY = 0x98,
    CMD_SUSPEND = 0xb0,
    CMD_CONFIRM = 0xd0,
    CMD_READ_ARRAY = 0xff,
};
enum {
    STATUS_READY = BIT(7),
    STATUS_ERASE_ERROR = BIT(5),
    STATUS_PROGRAM_ERROR = BIT(4),
    STATUS_SEQUENCE_ERROR = STATUS_ERASE_ERROR | STATUS_PROGRAM_ERROR,
};
enum { ID_MAKER = 0x89, ID_DEVICE = 0x18, QUERY_LEN = 0x36 };

struct pflash {
    struct device dev;
    /* wiring */
    struct ram_region *array; /* its bytes are guest-visible state */
    int fd;
    /* guest-visible state */
    uint8_t mode;    /* what reads give: CMD_READ_* or CMD_QUERY */
    uint8_t command; /* whose second cycle comes next; 0: none */
    uint8_t status;
    /* not in the file yet: [dirty, dirty_end) */
    uint64_t dirty, dirty_end;
};

static struct pflash *to_pflash(struct device *d)
{
    return container_of(d, struct pflash, dev);
}

bool pflash_reads_array(const struct pflash *p)
{
    return p->mode == CMD_READ_ARRAY && !p->command;
}

/* --- the file --- */

static void pflash_flush(struct pflash *p)
{
    while (p->fd >= 0 && p->dirty < p->dirty_end) {
        ssize_t n = pwrite(p->fd, p->array->hva + p->dirty, (size_t)(p->dirty_end - p->dirty),
                           (off_t)p->dirty);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            log_limited(&p->dev.log, LOG_ERROR, "pflash", "the variable store is not written: %s",
                        strerror(errno));
            p->status |= STATUS_PROGRAM_ERROR;
            break;
        }
        p->dirty += (uint64_t)n;
    }
    p->dirty = p->dirty_end = 0;
}

static void pflash_changed(struct pflash *p, uint64_t off, uint64_t len)
{
    if (p->dirty < p->dirty_end && off != p->dirty_end)
        pflash_flush(p);
    if (p->dirty == p->dirty_end)
        p->dirty = off;
    p->dirty_end = off + len;
    guest_region_written(vm_mem(p->dev.vm), p->array, off, len);
}

/* --- commands --- */

static void pflash_program(struct pflash *p, uint64_t off, unsigned size, uint64_t val)
{
    for (unsigned i = 0; i < size; i++)
        p->array->hva[off + i] &= (uint8_t)(val >> (8 * i));
    pflash_changed(p, off, size);
    p->status |= STATUS_READY;
}

static void pflash_erase(struct pflash *p, uint64_t off)
{
    off = align_down(off, PFLASH_BLOCK);
    memset(p->array->hva + off, 0xff, PFLASH_BLOCK);
    pflash_changed(p, off, PFLASH_BLOCK);
    pflash_flush(p);
    p->status |= STATUS_READY;
}

static void pflash_second_cycle(struct pflash *p, uint64_t off, unsigned size, uint64_t val)
{
    uint8_t command = p->command;

    p->command = 0;
    if (command == CMD_PROGRAM)
        pflash_program(p, off, size, val);
    else if (command == CMD_ERASE && (val & 0xff) == CMD_CONFIRM)
        pflash_erase(p, off);
    else if (command == CMD_LOCK)
        p->status |= STATUS_READY;
    else
        p->status |= STATUS_READY | STATUS_SEQUENCE_ERROR;
}

static void pflash_first_cycle(struct pflash *p, uint8_t command)
{
    switch (command) {
    case CMD_PROGRAM:
    case CMD_PROGRAM_2:
        p->command = CMD_PROGRAM;
        p->mode = CMD_READ_STATUS;
        return;
    case CMD_ERASE:
    case CMD_LOCK:
        p->command = command;
        p->mode = CMD_READ_STATUS;
        break;
    case CMD_CLEAR_STATUS:
        p->status = 0;
        p->mode = CMD_READ_ARRAY;
        break;
    case CMD_SUSPEND:
    case CMD_CONFIRM:
        p->mode = CMD_READ_STATUS;
        break;
    case CMD_READ_STATUS:
    case CMD_READ_ID:
    case CMD_QUERY:
        p->mode = command;
        break;
    default:
        p->mode = CMD_READ_ARRAY;
        break;
    }
    pflash_flush(p);
}

static void pflash_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct pflash *p = to_pflash(d);
    bool array = pflash_reads_array(p);

    if (p->command)
        pflash_second_cycle(p, off, size, val);
    else
        pflash_first_cycle(p, (uint8_t)val);
    if (array != pflash_reads_array(p))
        vm_memory_changed(d->vm);
}

/* --- reads --- */

/* JESD68: identification, geometry in powers of two, one region of equal blocks. */
static uint8_t pflash_query(const struct pflash *p, uint64_t off)
{
    uint64_t blocks = p->array->len / PFLASH_BLOCK - 1;
    uint8_t table[QUERY_LEN] = {
        [0x10] = 'Q',  'R',         'Y', 0x01, /* command set: Intel extended */
        [0x15] = 0x31,                         /* where the extended table is */
        [0x1b] = 0x45, 0x55,                   /* 4.5 V to 5.5 V */
        [0x1f] = 7,    [0x21] = 10,            /* a byte 128 us, a block 1 s */
        [0x23] = 4,    [0x25] = 4,             /* at most 16 times that */
        [0x2c] = 1,                            /* one region */
        [0x31] = 'P',  'R',         'I', '1',  '0',
    };

    while (BIT64(table[0x27]) < p->array->len)
        table[0x27]++;
    table[0x2d] = (uint8_t)blocks;
    table[0x2e] = (uint8_t)(blocks >> 8);
    table[0x2f] = (uint8_t)(PFLASH_BLOCK >> 8);
    table[0x30] = (uint8_t)(PFLASH_BLOCK >> 16);
    return off < sizeof(table) ? table[off] : 0;
}

static uint64_t pflash_read(struct device *d, uint64_t off, unsigned size)
{
    struct pflash *p = to_pflash(d);
    uint64_t val = 0;

    (void)size;
    switch (p->mode) {
    case CMD_READ_STATUS:
        pflash_flush(p);
        return p->status;
    case CMD_READ_ID:
        return (off & 0xff) == 0 ? ID_MAKER : (off & 0xff) == 1 ? ID_DEVICE : 0;
    case CMD_QUERY:
        return pflash_query(p, off & 0xff);
    default: /* the array, not mapped yet */
        memcpy(&val, p->array->hva + off, size);
        return val;
    }
}

/* --- device --- */

static bool pflash_known_mode(uint8_t mode)
{
    return mode == CMD_READ_ARRAY || mode == CMD_READ_STATUS || mode == CMD_READ_ID ||
           mode == CMD_QUERY;
}

static void pflash_state(struct device *d, struct state *s)
{
    struct pflash *p = to_pflash(d);

    state_u8(s, &p->mode);
    state_u8(s, &p->command);
    state_u8(s, &p->status);
    state_require(s,
                  pflash_known_mode(p->mode) && (!p->command || p->command == CMD_PROGRAM ||
                                                 p->command == CMD_ERASE || p->command == CMD_LOCK),
                  "unknown flash command");
    state_bytes(s, p->array->hva, p->array->len);
    if (state_loading(s) && !state_error(s)) { /* the file follows with the sync */
        pflash_flush(p);
        pflash_changed(p, 0, p->array->len);
    }
}

static void pflash_sync(struct device *d)
{
    pflash_flush(to_pflash(d));
}

static void pflash_quiesce(struct device *d)
{
    pthread_mutex_lock(&d->lock);
    pflash_flush(to_pflash(d));
    pthread_mutex_unlock(&d->lock);
}

/* What was written stays. */
static void pflash_reset(struct device *d)
{
    struct pflash *p = to_pflash(d);

    pflash_flush(p);
    p->mode = CMD_READ_ARRAY;
    p->command = p->status = 0;
}

static void pflash_destroy(struct device *d)
{
    pflash_flush(to_pflash(d));
    util_close(&to_pflash(d)->fd);
    free(to_pflash(d));
}

static const struct device_ops pflash_ops = {
    .type = "pflash",
    .version = 1,
    .state = pflash_state,
    .sync = pflash_sync,
    .quiesce = pflash_quiesce,
    .reset = pflash_reset,
    .destroy = pflash_destroy,
};
static const struct io_ops pflash_io = { pflash_read, pflash_write, 1, 4 };

struct pflash *pflash_create(struct vm *vm, struct ram_region *array, int fd, struct err *e)
{
    struct pflash *p = calloc(1, sizeof(*p));

    if (!p)
        return err_oom(e);
    BUG_ON(array->len % PFLASH_BLOCK);
    p->dev = (struct device){ .ops = &pflash_ops, .vm = vm, .id = "pflash" };
    p->array = array;
    p->fd = fd;
    p->mode = CMD_READ_ARRAY;
    if (bus_claim(vm_mmio(vm), array->gpa, array->len, &pflash_io, &p->dev, e) ||
        device_add(vm, &p->dev, e)) {
        bus_release(vm_mmio(vm), &p->dev);
        free(p);
        return NULL;
    }
    return p;
}
