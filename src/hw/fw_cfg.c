/*
 * fw_cfg.c: QEMU's firmware configuration device (docs/specs/fw_cfg.rst): selector and data port, file
 * directory, DMA. Items are read-only. The contents come from the machine, not from the guest, and are
 * not part of its state: a VM is restored with the same configuration.
 *
 *   base + 0  selector (16 bits)     base + 4  DMA address, high half, big-endian
 *   base + 1  data (8 bits)          base + 8  DMA address, low half: starts the transfer
 *
 * Locking: the bus holds the device lock.
 */
#include "hw/fw_cfg.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "state/state.h"

enum { FW_CFG_KEYS = FW_CFG_FILE_FIRST, FW_CFG_ITEMS = FW_CFG_KEYS + FW_CFG_FILES_MAX };
enum { FW_CFG_PORTS_LEN = 2, FW_CFG_DMA_OFF = 4, FW_CFG_DMA_LEN = 8 };
enum { FW_CFG_HAS_PORTS = BIT(0), FW_CFG_HAS_DMA = BIT(1) };
enum { /* DMA control */
       DMA_ERROR = BIT(0),
       DMA_READ = BIT(1),
       DMA_SKIP = BIT(2),
       DMA_SELECT = BIT(3),
       DMA_WRITE = BIT(4),
};
enum { DIR_ENTRY_LEN = 64 }; /* be32 size, be16 select, 16 reserved bits, name[56] */

struct fw_cfg_item {
    uint8_t *data;
    uint32_t len;
    void (*refresh)(void *opaque); /* NULL: the contents stay as they are */
    void *opaque;
};

struct fw_cfg {
    struct device dev;
    /* configuration */
    struct fw_cfg_item item[FW_CFG_ITEMS];
    char name[FW_CFG_FILES_MAX][FW_CFG_NAME_MAX + 1];
    unsigned n_files;
    /* guest-visible state */
    uint16_t key;
    uint32_t pos; /* of the next byte in the selected item */
    uint64_t dma_gpa;
};

static struct fw_cfg *to_fw_cfg(struct device *d)
{
    return container_of(d, struct fw_cfg, dev);
}

/* --- contents --- */

static int fw_cfg_put(struct fw_cfg *f, unsigned n, const void *data, size_t len, struct err *e)
{
    uint8_t *copy = malloc(len ? len : 1);

    if (!copy)
        return err_set(e, ENOMEM, "out of memory");
    if (len > UINT32_MAX) {
        free(copy);
        return err_set(e, E2BIG, "a firmware configuration item is larger than 4 GiB");
    }
    if (len)
        memcpy(copy, data, len);
    free(f->item[n].data);
    f->item[n].data = copy;
    f->item[n].len = (uint32_t)len;
    return 0;
}

static int fw_cfg_put_dir(struct fw_cfg *f, struct err *e)
{
    uint8_t dir[4 + FW_CFG_FILES_MAX * DIR_ENTRY_LEN] = { 0 };

    st_be32(dir, f->n_files);
    for (unsigned i = 0; i < f->n_files; i++) {
        uint8_t *p = dir + 4 + i * DIR_ENTRY_LEN;

        st_be32(p, f->item[FW_CFG_FILE_FIRST + i].len);
        st_be16(p + 4, (uint16_t)(FW_CFG_FILE_FIRST + i));
        memcpy(p + 8, f->name[i], sizeof(f->name[i]));
    }
    return fw_cfg_put(f, FW_CFG_FILE_DIR, dir, 4 + f->n_files * DIR_ENTRY_LEN, e);
}

int fw_cfg_add_key(struct fw_cfg *f, uint16_t key, const void *data, size_t len, struct err *e)
{
    BUG_ON(key >= FW_CFG_KEYS);
    return fw_cfg_put(f, key, data, len, e);
}

int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t len, struct err *e)
{
    unsigned i = 0;
    int rc;

    if (strlen(name) > FW_CFG_NAME_MAX)
        return err_set(e, ENAMETOOLONG, "firmware configuration file '%s': the name is too long",
                       name);
    while (i < f->n_files && strcmp(f->name[i], name))
        i++;
    if (i == FW_CFG_FILES_MAX)
        return err_set(e, ENOSPC, "too many firmware configuration files (at most %d)",
                       FW_CFG_FILES_MAX);
    rc = fw_cfg_put(f, FW_CFG_FILE_FIRST + i, data, len, e);
    if (rc)
        return rc;
    memcpy(f->name[i], name, strlen(name) + 1);
    if (i == f->n_files)
        f->n_files++;
    return fw_cfg_put_dir(f, e);
}

void fw_cfg_refresh_file(struct fw_cfg *f, const char *name, void (*refresh)(void *opaque),
                         void *opaque)
{
    for (unsigned i = 0; i < f->n_files; i++) {
        if (strcmp(f->name[i], name))
            continue;
        f->item[FW_CFG_FILE_FIRST + i].refresh = refresh;
        f->item[FW_CFG_FILE_FIRST + i].opaque = opaque;
        return;
    }
    BUG_ON(true); /* there is no such file */
}

/* --- access --- */

static const struct fw_cfg_item *fw_cfg_selected(const struct fw_cfg *f)
{
    static const struct fw_cfg_item none = { 0 };

    return f->key < FW_CFG_ITEMS ? &f->item[f->key] : &none;
}

static void fw_cfg_select(struct fw_cfg *f, uint16_t key)
{
    const struct fw_cfg_item *item;

    f->key = key;
    f->pos = 0;
    item = fw_cfg_selected(f);
    if (item->refresh)
        item->refresh(item->opaque);
}

/* Copies the next len bytes; beyond the item's end they are 0. */
static void fw_cfg_copy(struct fw_cfg *f, uint8_t *buf, uint32_t len)
{
    const struct fw_cfg_item *item = fw_cfg_selected(f);
    uint32_t left = f->pos < item->len ? item->len - f->pos : 0;
    uint32_t n = len < left ? len : left;

    if (n)
        memcpy(buf, item->data + f->pos, n);
    memset(buf + n, 0, len - n);
    f->pos += n;
}

static void fw_cfg_skip(struct fw_cfg *f, uint32_t len)
{
    const struct fw_cfg_item *item = fw_cfg_selected(f);

    f->pos = (uint32_t)min_u64((uint64_t)f->pos + len, max_u64(item->len, f->pos));
}

/* What the guest asked for, on a copy of its descriptor; false: it gets the error bit. */
static bool fw_cfg_dma_run(struct fw_cfg *f, uint32_t control, uint32_t len, uint64_t gpa)
{
    uint8_t *buf;

    if (control & DMA_SELECT)
        fw_cfg_select(f, (uint16_t)(control >> 16));
    if (control & DMA_READ) {
        buf = len ? guest_ptr(vm_mem(f->dev.vm), gpa, len, true) : NULL;
        if (len && !buf)
            return false;
        if (len)
            fw_cfg_copy(f, buf, len);
        return true;
    }
    if (control & DMA_WRITE)
        return false;
    if (control & DMA_SKIP)
        fw_cfg_skip(f, len);
    return true;
}

static void fw_cfg_dma(struct fw_cfg *f)
{
    struct physmap *mem = vm_mem(f->dev.vm);
    uint64_t at = f->dma_gpa;
    uint8_t desc[16];
    uint8_t *control;
    bool ok;

    f->dma_gpa = 0;
    if (!guest_read(mem, at, desc, sizeof(desc)))
        return;
    ok = fw_cfg_dma_run(f, ld_be32(desc), ld_be32(desc + 4), ld_be64(desc + 8));
    control = guest_ptr(mem, at, 4, true);
    if (control)
        st_be32(control, ok ? 0 : DMA_ERROR);
}

static uint64_t fw_cfg_read(struct device *d, uint64_t off, unsigned size)
{
    uint8_t byte;

    if (off == 0) /* the selector is write-only; a word ends in one data byte */
        return size == 2 ? 0xffff : 0xff;
    fw_cfg_copy(to_fw_cfg(d), &byte, 1);
    return byte;
}

static void fw_cfg_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    if (off == 0 && size == 2)
        fw_cfg_select(to_fw_cfg(d), (uint16_t)val);
}

static uint64_t fw_cfg_dma_read(struct device *d, uint64_t off, unsigned size)
{
    static const uint8_t signature[] = "QEMU CFG";

    (void)d;
    (void)size;
    return ld_le32(signature + (off & 4));
}

static void fw_cfg_dma_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct fw_cfg *f = to_fw_cfg(d);
    uint32_t half = __builtin_bswap32((uint32_t)val);

    (void)size;
    if (off == 0) {
        f->dma_gpa = (uint64_t)half << 32;
        return;
    }
    f->dma_gpa |= half;
    fw_cfg_dma(f);
}

static void fw_cfg_state(struct device *d, struct state *s)
{
    struct fw_cfg *f = to_fw_cfg(d);

    state_u16(s, &f->key);
    state_u32(s, &f->pos);
    state_u64(s, &f->dma_gpa);
}

static void fw_cfg_destroy(struct device *d)
{
    for (unsigned i = 0; i < FW_CFG_ITEMS; i++)
        free(to_fw_cfg(d)->item[i].data);
    free(to_fw_cfg(d));
}

static const struct device_ops fw_cfg_ops = {
    .type = "fw-cfg",
    .version = 1,
    .state = fw_cfg_state,
    .destroy = fw_cfg_destroy,
};
static const struct io_ops fw_cfg_io = { fw_cfg_read, fw_cfg_write, 1, 2 };
static const struct io_ops fw_cfg_dma_io = { fw_cfg_dma_read, fw_cfg_dma_write, 4, 4 };

struct fw_cfg *fw_cfg_create(struct vm *vm, uint16_t base, struct err *e)
{
    static const uint8_t features[4] = { FW_CFG_HAS_PORTS | FW_CFG_HAS_DMA };
    struct fw_cfg *f = calloc(1, sizeof(*f));
    struct bus *pio = vm_pio(vm);

    if (!f)
        return err_oom(e);
    f->dev = (struct device){ .ops = &fw_cfg_ops, .vm = vm, .id = "fw-cfg" };
    if (fw_cfg_add_key(f, FW_CFG_SIGNATURE, "QEMU", 4, e) ||
        fw_cfg_add_key(f, FW_CFG_ID, features, sizeof(features), e) || fw_cfg_put_dir(f, e) ||
        bus_claim(pio, base, FW_CFG_PORTS_LEN, &fw_cfg_io, &f->dev, e) ||
        bus_claim(pio, base + FW_CFG_DMA_OFF, FW_CFG_DMA_LEN, &fw_cfg_dma_io, &f->dev, e) ||
        device_add(vm, &f->dev, e)) {
        bus_release(pio, &f->dev);
        fw_cfg_destroy(&f->dev);
        return NULL;
    }
    return f;
}
