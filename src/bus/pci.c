/*
 * pci.c: one PCI function: header, write masks, BAR registers, capabilities, INTx. See pci.h.
 */
#include "bus/pci.h"

#include <string.h>

#include "base/endian.h"

enum {
    PCI_CMD_WRITABLE = 0x0547, /* io, memory, master, parity, SERR#, INTx off */
    PCI_BAR_IO = 1,
    PCI_BAR_MEM64 = 4,
    PCI_BAR_PREFETCH = 8,
    PCI_CAP_FIRST = 0x40,
    PCI_ROM_ENABLE = 1,
    PCI_ROM_MIN = 2 * KIB,
    PCI_ROM_MAX = 16 * MIB,
};

void pci_init(struct pci_dev *p, const struct device_ops *ops, struct vm *vm, const char *id,
              uint16_t vendor, uint16_t device, uint32_t class_code, uint8_t revision)
{
    p->dev.ops = ops;
    p->dev.vm = vm;
    p->dev.id = id;
    p->next_cap = PCI_CAP_FIRST;
    for (unsigned i = 0; i < PCI_REGIONS; i++)
        p->bar[i].mapped_at = PCI_UNMAPPED;
    st_le16(p->cfg + PCI_VENDOR, vendor);
    st_le16(p->cfg + PCI_DEVICE, device);
    st_le32(p->cfg + PCI_REVISION, class_code << 8 | revision);
    st_le16(p->wmask + PCI_COMMAND, PCI_CMD_WRITABLE);
    p->wmask[PCI_CACHE_LINE] = 0xff;
    p->wmask[PCI_LATENCY] = 0xff;
    p->wmask[PCI_INT_LINE] = 0xff;
}

void pci_set_subsystem(struct pci_dev *p, uint16_t vendor, uint16_t device)
{
    st_le16(p->cfg + PCI_SUBSYS_VENDOR, vendor);
    st_le16(p->cfg + PCI_SUBSYS, device);
}

void pci_add_bar(struct pci_dev *p, unsigned n, uint64_t size, bool io, bool mem64,
                 const struct io_ops *ops)
{
    unsigned off = PCI_BAR0 + 4 * n;
    uint64_t mask = ~(size - 1);

    BUG_ON(!is_pow2(size) || size < (io ? 4 : 16) || n + mem64 >= PCI_NBARS);
    p->bar[n] = (struct pci_bar){
        .size = size, .io = io, .mem64 = mem64, .ops = ops, .mapped_at = PCI_UNMAPPED
    };
    st_le32(p->cfg + off, io ? PCI_BAR_IO : mem64 ? PCI_BAR_MEM64 : 0);
    st_le32(p->wmask + off, (uint32_t)mask);
    if (mem64)
        st_le32(p->wmask + off + 4, (uint32_t)(mask >> 32));
}

/* Behind the image's end the ROM is erased. */
static uint64_t pci_rom_read(struct device *d, uint64_t off, unsigned size)
{
    const struct pci_dev *p = container_of(d, struct pci_dev, dev);
    uint64_t val = UINT64_MAX;

    for (unsigned i = 0; i < size && off + i < p->rom_len; i++)
        val = (val & ~(0xffull << (8 * i))) | (uint64_t)p->rom[off + i] << (8 * i);
    return val;
}

static const struct io_ops pci_rom_io = { pci_rom_read, NULL, 1, 8 };

void pci_add_rom(struct pci_dev *p, const uint8_t *data, uint32_t len)
{
    uint32_t size = PCI_ROM_MIN;

    BUG_ON(!len || len > PCI_ROM_MAX);
    while (size < len)
        size *= 2;
    p->rom = data;
    p->rom_len = len;
    p->bar[PCI_ROM] =
        (struct pci_bar){ .size = size, .ops = &pci_rom_io, .mapped_at = PCI_UNMAPPED };
    st_le32(p->wmask + PCI_ROM_BAR, ~(size - 1) | PCI_ROM_ENABLE);
}

uint8_t pci_add_cap(struct pci_dev *p, uint8_t id, uint8_t len)
{
    uint8_t at = p->next_cap;

    BUG_ON(at + len > UINT8_MAX); /* the next one must have an offset, too */
    p->cfg[at] = id;
    p->cfg[p->last_cap ? p->last_cap + 1 : PCI_CAP_PTR] = at;
    p->cfg[PCI_STATUS] |= PCI_STS_CAPS;
    p->last_cap = at;
    p->next_cap = (uint8_t)align_up(at + len, 4);
    return at;
}

void pci_add_intx(struct pci_dev *p)
{
    p->cfg[PCI_INT_PIN] = 1;
}

static uint16_t pci_command(const struct pci_dev *p)
{
    return ld_le16(p->cfg + PCI_COMMAND);
}

bool pci_bus_master(const struct pci_dev *p)
{
    return pci_command(p) & PCI_CMD_MASTER;
}

/*
 * Address 0 is what firmware leaves in a BAR that it does not use, and an area that ends at the top is
 * the all-ones of somebody who measures its size: neither is meant.
 */
uint64_t pci_bar_wanted(const struct pci_dev *p, unsigned n)
{
    const struct pci_bar *bar = &p->bar[n];
    const uint8_t *reg = p->cfg + (n == PCI_ROM ? PCI_ROM_BAR : PCI_BAR0 + 4 * n);
    uint64_t at = ld_le32(reg), last;

    if (n == PCI_ROM && !(at & PCI_ROM_ENABLE))
        return PCI_UNMAPPED;
    if (!bar->size || !(pci_command(p) & (bar->io ? PCI_CMD_IO : PCI_CMD_MEM)))
        return PCI_UNMAPPED;
    if (bar->mem64)
        at |= (uint64_t)ld_le32(reg + 4) << 32;
    at &= ~(bar->size - 1);
    if (!at || ckd_add(&last, at, bar->size - 1) || last == UINT64_MAX || last == UINT32_MAX)
        return PCI_UNMAPPED;
    if (bar->io && last > UINT16_MAX)
        return PCI_UNMAPPED;
    return at;
}

static void pci_drive_intx(struct pci_dev *p)
{
    if (p->cfg[PCI_INT_PIN])
        pci_bus_intx(p, p->intx_level && !(pci_command(p) & PCI_CMD_INTX_OFF));
}

void pci_set_intx(struct pci_dev *p, bool level)
{
    if (p->intx_level == level)
        return;
    p->intx_level = level;
    pci_drive_intx(p);
}

uint8_t pci_cfg_read8(struct pci_dev *p, unsigned off)
{
    uint8_t val = p->cfg[off];

    /* Not stored, because it is a wire's level and not state. */
    if (off == PCI_STATUS && p->intx_level)
        val |= PCI_STS_INTX;
    return val;
}

static bool pci_touches(unsigned off, unsigned size, unsigned reg, unsigned reg_size)
{
    return off < reg + reg_size && reg < off + size;
}

void pci_cfg_write(struct pci_dev *p, unsigned off, unsigned size, uint32_t val)
{
    for (unsigned i = 0; i < size; i++, val >>= 8) {
        uint8_t mask = p->wmask[off + i];

        p->cfg[off + i] = (uint8_t)((p->cfg[off + i] & ~mask) | (val & mask));
        p->cfg[off + i] &= (uint8_t) ~(val & p->w1c[off + i]);
    }
    if (pci_touches(off, size, PCI_COMMAND, 2))
        pci_drive_intx(p);
    if (p->msix.n) /* bus mastering or the function's mask may have opened the way */
        pci_msix_deliver(p);
    if (p->cfg_written)
        p->cfg_written(p, off, size);
}

/* What the guest cannot write is the constructor's and has to match; only the rest is loaded. */
static void pci_load_cfg(struct pci_dev *p, struct state *s, const uint8_t *image)
{
    for (unsigned i = 0; i < PCI_CFG_SIZE; i++) {
        uint8_t mask = p->wmask[i] | p->w1c[i];
        uint8_t fixed = i == PCI_HEADER_TYPE ? 0 : (uint8_t)~mask; /* siblings may come and go */

        state_require(s, !((p->cfg[i] ^ image[i]) & fixed), "saved from another PCI device");
        p->cfg[i] = (uint8_t)((p->cfg[i] & ~mask) | (image[i] & mask));
    }
}

static void pci_msix_state(struct pci_msix *m, struct state *s)
{
    for (unsigned i = 0; i < m->n; i++) {
        state_u64(s, &m->entry[i].addr);
        state_u32(s, &m->entry[i].data);
        state_u32(s, &m->entry[i].ctrl);
    }
    state_u64(s, &m->pending);
    state_require(s, m->n == PCI_MSIX_MAX || !(m->pending >> m->n), "no such MSI-X vector");
}

void pci_state(struct pci_dev *p, struct state *s)
{
    uint8_t image[PCI_CFG_SIZE];

    memcpy(image, p->cfg, sizeof(image));
    state_bytes(s, image, sizeof(image));
    if (state_loading(s) && !state_error(s))
        pci_load_cfg(p, s, image);
    if (p->msix.n)
        pci_msix_state(&p->msix, s);
}

void pci_sync(struct pci_dev *p)
{
    if (!p->bus)
        return;
    pci_bus_remap(p->bus);
    pci_drive_intx(p);
    if (p->msix.n)
        pci_msix_deliver(p);
}
