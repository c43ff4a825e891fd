/*
 * i8237.c: two 8237A DMA controllers with page registers, as in the PIIX3 (Intel 290550, 5.2). Modes single,
 * demand and block are alike, because a device's transfer is moved at once; verify, auto-initialise and
 * decrement are as the chip has them. Not modelled: memory to memory, requests by software, the extended mode
 * and 32-bit registers of EISA.
 *
 * Locking: the device lock guards everything; transfers take it below the lock of the device that asks.
 */
#include "hw/i8237.h"

#include <string.h>

enum { I8237_CHANNELS = 8, I8237_PER_CHIP = 4, I8237_PAGES = 15, I8237_CASCADE = 4 };
enum { /* register numbers of a chip; below: address and count of its channels */
       DMA_STATUS = 8,
       DMA_REQUEST = 9,
       DMA_MASK_ONE = 10,
       DMA_MODE = 11,
       DMA_CLEAR_FLIP_FLOP = 12,
       DMA_MASTER_CLEAR = 13,
       DMA_CLEAR_MASK = 14,
       DMA_MASK_ALL = 15,
};
enum { DMA_COMMAND_DISABLE = 0x04 };
enum {
    DMA_MODE_TYPE = 0x0c, /* what it does to memory: verify, write, read */
    DMA_MODE_WRITE = 0x04,
    DMA_MODE_READ = 0x08,
    DMA_MODE_AUTO = 0x10,
    DMA_MODE_DOWN = 0x20,
    DMA_MODE_CASCADE = 0xc0,
};

struct i8237_channel {
    uint16_t base_addr, base_count, addr, count; /* in units of the channel */
    uint8_t mode;
};
struct i8237 {
    struct device dev;
    struct loop_work *waiting[I8237_CHANNELS]; /* wiring */
    struct i8237_channel channel[I8237_CHANNELS];
    uint8_t page[I8237_PAGES];
    uint8_t command[2], status[2], mask[2]; /* a bit a channel of the chip */
    bool high_byte[2];                      /* the flip-flop */
};

static struct i8237 *i8237_of(struct device *d)
{
    return container_of(d, struct i8237, dev);
}

/* --- moving data --- */

/* Where in the page registers (from port 0x81 on) a channel has its own. */
static uint8_t i8237_page(const struct i8237 *dma, unsigned channel)
{
    static const uint8_t at[I8237_CHANNELS] = { 6, 2, 0, 1, 14, 10, 8, 9 };

    return dma->page[at[channel]];
}

/* Guest physical address of the unit that comes next. */
static uint64_t i8237_gpa(const struct i8237 *dma, unsigned channel)
{
    uint64_t page = i8237_page(dma, channel);
    uint16_t addr = dma->channel[channel].addr;

    return channel < I8237_PER_CHIP ? page << 16 | addr : (page & 0xfe) << 16 | (uint64_t)addr << 1;
}

static void i8237_chip_unit(unsigned channel, unsigned *chip, uint8_t *bit, unsigned *unit)
{
    *chip = channel / I8237_PER_CHIP;
    *bit = (uint8_t)BIT(channel % I8237_PER_CHIP);
    *unit = *chip ? 2 : 1;
}

static bool i8237_ready(const struct i8237 *dma, unsigned channel)
{
    unsigned chip, unit;
    uint8_t bit;

    i8237_chip_unit(channel, &chip, &bit, &unit);
    if (chip == 0 && (dma->mask[1] & 1 || dma->command[1] & DMA_COMMAND_DISABLE))
        return false; /* it asks through the cascade */
    return !(dma->mask[chip] & bit) && !(dma->command[chip] & DMA_COMMAND_DISABLE) &&
           (dma->channel[channel].mode & DMA_MODE_CASCADE) != DMA_MODE_CASCADE;
}

/* Up to len bytes at the current address; a run never goes beyond its 64 Ki units. */
static void i8237_copy(struct i8237 *dma, unsigned channel, uint8_t *buf, unsigned len,
                       bool to_memory)
{
    struct physmap *mem = vm_mem(dma->dev.vm);
    uint64_t gpa = i8237_gpa(dma, channel);
    uint8_t type = dma->channel[channel].mode & DMA_MODE_TYPE;

    if (to_memory && type == DMA_MODE_WRITE) {
        bool ok = guest_write(mem, gpa, buf, len);

        (void)ok; /* a bus without memory */
    } else if (!to_memory && type == DMA_MODE_READ) {
        if (!guest_read(mem, gpa, buf, len))
            memset(buf, 0xff, len);
    }
}

/* The count has gone below zero. */
static void i8237_end(struct i8237 *dma, unsigned channel)
{
    struct i8237_channel *c = &dma->channel[channel];
    unsigned chip, unit;
    uint8_t bit;

    i8237_chip_unit(channel, &chip, &bit, &unit);
    dma->status[chip] |= bit;
    if (c->mode & DMA_MODE_AUTO) {
        c->addr = c->base_addr;
        c->count = c->base_count;
    } else {
        c->count = 0xffff;
        dma->mask[chip] |= bit;
    }
}

/* One run of units whose addresses follow each other; its bytes. */
static unsigned i8237_run(struct i8237 *dma, unsigned channel, uint8_t *buf, unsigned len,
                          bool to_memory, bool *end)
{
    struct i8237_channel *c = &dma->channel[channel];
    unsigned unit = channel < I8237_PER_CHIP ? 1 : 2;
    bool down = c->mode & DMA_MODE_DOWN;
    unsigned n = down ? 1 : (unsigned)min_u64(len / unit, 0x10000u - c->addr);

    n = (unsigned)min_u64(n, c->count + 1u);
    i8237_copy(dma, channel, buf, n * unit, to_memory);
    c->addr = (uint16_t)(down ? c->addr - 1u : c->addr + n);
    *end = n == c->count + 1u;
    c->count = (uint16_t)(c->count - n);
    if (*end)
        i8237_end(dma, channel);
    return n * unit;
}

unsigned i8237_transfer(struct i8237 *dma, unsigned channel, void *buf, unsigned len,
                        bool to_memory, bool *end)
{
    unsigned unit = channel < I8237_PER_CHIP ? 1 : 2, done = 0;

    *end = false;
    pthread_mutex_lock(&dma->dev.lock);
    while (!*end && done + unit <= len && i8237_ready(dma, channel))
        done += i8237_run(dma, channel, (uint8_t *)buf + done, len - done, to_memory, end);
    pthread_mutex_unlock(&dma->dev.lock);
    return done;
}

void i8237_connect(struct i8237 *dma, unsigned channel, struct loop_work *work)
{
    dma->waiting[channel] = work;
}

/* --- registers --- */

static void i8237_wake(struct i8237 *dma)
{
    for (unsigned i = 0; i < I8237_CHANNELS; i++)
        if (dma->waiting[i] && i8237_ready(dma, i))
            loop_post(vm_loop(dma->dev.vm), dma->waiting[i]);
}

static void i8237_master_clear(struct i8237 *dma, unsigned chip)
{
    dma->command[chip] = 0;
    dma->status[chip] = 0;
    dma->mask[chip] = 0x0f;
    dma->high_byte[chip] = false;
}

static uint8_t i8237_read_reg(struct i8237 *dma, unsigned chip, unsigned reg)
{
    const struct i8237_channel *c = &dma->channel[chip * I8237_PER_CHIP + reg / 2 % I8237_PER_CHIP];
    uint8_t val = 0;

    if (reg < DMA_STATUS) {
        uint16_t word = reg & 1 ? c->count : c->addr;

        val = (uint8_t)(dma->high_byte[chip] ? word >> 8 : word);
        dma->high_byte[chip] = !dma->high_byte[chip];
    } else if (reg == DMA_STATUS) {
        val = dma->status[chip];
        dma->status[chip] = 0;
    } else if (reg == DMA_MASK_ALL) {
        val = dma->mask[chip] | 0xf0;
    }
    return val;
}

static void i8237_set_half(uint16_t *base, uint16_t *now, bool high, uint8_t val)
{
    *base = (uint16_t)(high ? (*base & 0x00ff) | val << 8 : (*base & 0xff00) | val);
    *now = *base;
}

static void i8237_write_channel(struct i8237 *dma, unsigned chip, unsigned reg, uint8_t val)
{
    struct i8237_channel *c = &dma->channel[chip * I8237_PER_CHIP + reg / 2];

    if (reg & 1)
        i8237_set_half(&c->base_count, &c->count, dma->high_byte[chip], val);
    else
        i8237_set_half(&c->base_addr, &c->addr, dma->high_byte[chip], val);
    dma->high_byte[chip] = !dma->high_byte[chip];
}

static void i8237_write_control(struct i8237 *dma, unsigned chip, unsigned reg, uint8_t val)
{
    uint8_t bit = (uint8_t)BIT(val & 3);

    switch (reg) {
    case DMA_STATUS:
        dma->command[chip] = val;
        break;
    case DMA_MASK_ONE:
        dma->mask[chip] = (uint8_t)(val & 4 ? dma->mask[chip] | bit : dma->mask[chip] & ~bit);
        break;
    case DMA_MODE:
        dma->channel[chip * I8237_PER_CHIP + (val & 3)].mode = val & 0xfc;
        break;
    case DMA_CLEAR_FLIP_FLOP:
        dma->high_byte[chip] = false;
        break;
    case DMA_MASTER_CLEAR:
        i8237_master_clear(dma, chip);
        break;
    case DMA_CLEAR_MASK:
        dma->mask[chip] = 0;
        break;
    case DMA_MASK_ALL:
        dma->mask[chip] = val & 0x0f;
        break;
    default: /* DMA_REQUEST */
        break;
    }
}

static void i8237_write_reg(struct i8237 *dma, unsigned chip, unsigned reg, uint8_t val)
{
    if (reg < DMA_STATUS)
        i8237_write_channel(dma, chip, reg, val);
    else
        i8237_write_control(dma, chip, reg, val);
    i8237_wake(dma);
}

static uint64_t i8237_low_read(struct device *d, uint64_t off, unsigned size)
{
    (void)size; /* 1, by the io_ops */
    return i8237_read_reg(i8237_of(d), 0, (unsigned)off);
}

static void i8237_low_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)size;
    i8237_write_reg(i8237_of(d), 0, (unsigned)off, (uint8_t)val);
}

static uint64_t i8237_high_read(struct device *d, uint64_t off, unsigned size)
{
    (void)size;
    return off & 1 ? 0xff : i8237_read_reg(i8237_of(d), 1, (unsigned)off / 2);
}

static void i8237_high_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)size;
    if (!(off & 1))
        i8237_write_reg(i8237_of(d), 1, (unsigned)off / 2, (uint8_t)val);
}

static uint64_t i8237_page_read(struct device *d, uint64_t off, unsigned size)
{
    (void)size;
    return i8237_of(d)->page[off];
}

static void i8237_page_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)size;
    i8237_of(d)->page[off] = (uint8_t)val;
}

static const struct io_ops i8237_low_io = { i8237_low_read, i8237_low_write, 1, 1 };
static const struct io_ops i8237_high_io = { i8237_high_read, i8237_high_write, 1, 1 };
static const struct io_ops i8237_page_io = { i8237_page_read, i8237_page_write, 1, 1 };

/* --- the device --- */

static void i8237_state(struct device *d, struct state *s)
{
    struct i8237 *dma = i8237_of(d);

    for (unsigned i = 0; i < I8237_CHANNELS; i++) {
        struct i8237_channel *c = &dma->channel[i];

        state_u16(s, &c->base_addr);
        state_u16(s, &c->base_count);
        state_u16(s, &c->addr);
        state_u16(s, &c->count);
        state_u8(s, &c->mode);
    }
    state_bytes(s, dma->page, sizeof(dma->page));
    for (unsigned i = 0; i < ARRAY_SIZE(dma->command); i++) {
        state_u8(s, &dma->command[i]);
        state_u8(s, &dma->status[i]);
        state_u8(s, &dma->mask[i]);
        state_bool(s, &dma->high_byte[i]);
    }
}

static const struct device_ops i8237_ops = {
    .type = "i8237",
    .version = 1,
    .state = i8237_state,
};

struct i8237 *i8237_create(struct vm *vm, const struct i8237_at *at, struct err *e)
{
    struct i8237 *dma = calloc(1, sizeof(*dma));
    struct bus *pio = vm_pio(vm);

    if (!dma)
        return err_oom(e);
    dma->dev = (struct device){ .ops = &i8237_ops, .vm = vm, .id = "dma" };
    for (unsigned chip = 0; chip < ARRAY_SIZE(dma->mask); chip++)
        i8237_master_clear(dma, chip);
    /* As every BIOS leaves it, for kernels that are booted without one. */
    dma->channel[I8237_CASCADE].mode = DMA_MODE_CASCADE;
    dma->mask[1] &= 0x0e;
    if (bus_claim(pio, at->low, 16, &i8237_low_io, &dma->dev, e) ||
        bus_claim(pio, at->high, 32, &i8237_high_io, &dma->dev, e) ||
        bus_claim(pio, at->page, I8237_PAGES, &i8237_page_io, &dma->dev, e) ||
        device_add(vm, &dma->dev, e)) {
        bus_release(pio, &dma->dev);
        free(dma);
        return NULL;
    }
    return dma;
}
