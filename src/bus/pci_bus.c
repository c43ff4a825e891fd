/*
 * pci_bus.c: the PCI host's side: configuration mechanism #1 (PCI 3.0, 3.2.2.3.2), where BARs are
 * mapped, and the addresses that firmware would have given them. Bus 0 only.
 *
 *     0xcf8  address (32-bit accesses only):  31 enable | 23:16 bus | 15:8 devfn | 7:2 register
 *     0xcf9  reset control (byte; PIIX3, 2.5.6): here because it lies inside 0xcf8
 *     0xcfc  data, 1, 2 or 4 bytes
 *
 * Locking: the bus's device lock, then the function's. Mappings belong to the bus's lock.
 */
#include <errno.h>

#include "base/endian.h"
#include "bus/pci.h"

enum {
    PCI_PORT = 0xcf8,
    PCI_PORT_LEN = 8,
    PCI_RCR = 1,
    PCI_DATA = 4,
    PCI_RCR_CPU = BIT(2), /* rising edge: reset */
    PCI_RCR_WRITABLE = 0x06,
};
#define PCI_ADDR_ENABLE BIT(31)

struct pci_bus {
    struct device dev;
    struct pci_dev *function[PCI_FUNCTIONS]; /* owned by the vm */
    pci_route_fn *route;
    void *route_opaque;

    uint32_t addr;
    uint8_t rcr;
};

static struct pci_bus *pci_bus_of(struct device *d)
{
    return container_of(d, struct pci_bus, dev);
}

void pci_bus_route(struct pci_bus *b, pci_route_fn *route, void *opaque)
{
    b->route = route;
    b->route_opaque = opaque;
}

void pci_bus_intx(struct pci_dev *p, bool level)
{
    struct pci_bus *b = p->bus;

    if (b && b->route)
        b->route(b->route_opaque, p->devfn, p->cfg[PCI_INT_PIN] - 1u, level);
}

struct vm *pci_bus_vm(const struct pci_bus *b)
{
    return b->dev.vm;
}

struct pci_dev *pci_bus_at(const struct pci_bus *b, unsigned devfn)
{
    return devfn < PCI_FUNCTIONS ? b->function[devfn] : NULL;
}

/* --- where BARs are mapped --- */

static struct bus *pci_bar_space(const struct pci_dev *p, unsigned n)
{
    return p->bar[n].io ? vm_pio(p->dev.vm) : vm_mmio(p->dev.vm);
}

static void pci_bar_unmap(struct pci_dev *p, unsigned n)
{
    struct pci_bar *bar = &p->bar[n];

    bus_release_at(pci_bar_space(p, n), &p->dev, bar->mapped_at);
    bar->mapped_at = PCI_UNMAPPED;
    if (p->bar_moved)
        p->bar_moved(p, n, PCI_UNMAPPED);
}

static void pci_bar_map(struct pci_dev *p, unsigned n, uint64_t at)
{
    struct pci_bar *bar = &p->bar[n];
    struct err e = { 0 };

    if (bus_claim(pci_bar_space(p, n), at, bar->size, bar->ops, &p->dev, &e)) {
        if (!bar->conflict)
            log_limited(&p->bus->dev.log, LOG_WARN, "pci", "BAR %u is not mapped: %s", n, e.msg);
        bar->conflict = true;
        return;
    }
    bar->conflict = false;
    bar->mapped_at = at;
    if (p->bar_moved)
        p->bar_moved(p, n, at);
}

static void pci_function_unmap_moved(struct pci_dev *p)
{
    for (unsigned n = 0; n < PCI_REGIONS; n++) {
        struct pci_bar *bar = &p->bar[n];

        if (bar->ops && bar->mapped_at != PCI_UNMAPPED && bar->mapped_at != pci_bar_wanted(p, n))
            pci_bar_unmap(p, n);
    }
}

static void pci_function_map_wanted(struct pci_dev *p)
{
    for (unsigned n = 0; n < PCI_REGIONS; n++) {
        uint64_t at = pci_bar_wanted(p, n);

        if (p->bar[n].ops && p->bar[n].mapped_at == PCI_UNMAPPED && at != PCI_UNMAPPED)
            pci_bar_map(p, n, at);
    }
}

/* In two rounds, so that two functions may swap places, and one that was in the way frees another. */
void pci_bus_remap(struct pci_bus *b)
{
    for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
        if (b->function[i])
            pci_function_unmap_moved(b->function[i]);
    for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
        if (b->function[i])
            pci_function_map_wanted(b->function[i]);
}

/* --- configuration mechanism #1 --- */

/* The function that the address register selects, or NULL. */
static struct pci_dev *pci_bus_selected(const struct pci_bus *b)
{
    if (!(b->addr & PCI_ADDR_ENABLE) || (b->addr >> 16 & 0xff))
        return NULL;
    return b->function[b->addr >> 8 & 0xff];
}

static uint32_t pci_bus_data_read(struct pci_bus *b, unsigned lane, unsigned size)
{
    struct pci_dev *p = pci_bus_selected(b);
    unsigned off = (b->addr & 0xfc) + lane;
    uint32_t val = 0;

    if (!p)
        return UINT32_MAX;
    pthread_mutex_lock(&p->dev.lock);
    if (p->cfg_reading)
        p->cfg_reading(p, off, size);
    for (unsigned i = 0; i < size; i++)
        val |= (uint32_t)pci_cfg_read8(p, off + i) << (8 * i);
    pthread_mutex_unlock(&p->dev.lock);
    return val;
}

static void pci_bus_data_write(struct pci_bus *b, unsigned lane, unsigned size, uint32_t val)
{
    struct pci_dev *p = pci_bus_selected(b);
    unsigned off = (b->addr & 0xfc) + lane;

    if (!p)
        return;
    pthread_mutex_lock(&p->dev.lock);
    pci_cfg_write(p, off, size, val);
    pthread_mutex_unlock(&p->dev.lock);
    if (off < PCI_STATUS || (off >= PCI_BAR0 && off < PCI_BAR0 + 4 * PCI_NBARS) ||
        (off >= PCI_ROM_BAR && off < PCI_ROM_BAR + 4))
        pci_bus_remap(b);
}

static uint64_t pci_bus_read(struct device *d, uint64_t off, unsigned size)
{
    struct pci_bus *b = pci_bus_of(d);

    if (off >= PCI_DATA)
        return pci_bus_data_read(b, (unsigned)off - PCI_DATA, size);
    if (off == 0 && size == 4)
        return b->addr;
    return off == PCI_RCR && size == 1 ? b->rcr : UINT64_MAX;
}

static void pci_bus_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct pci_bus *b = pci_bus_of(d);

    if (off >= PCI_DATA) {
        pci_bus_data_write(b, (unsigned)off - PCI_DATA, size, (uint32_t)val);
    } else if (off == 0 && size == 4) {
        b->addr = (uint32_t)val;
    } else if (off == PCI_RCR && size == 1) {
        if (val & ~b->rcr & PCI_RCR_CPU)
            vm_guest_reset(d->vm);
        b->rcr = val & PCI_RCR_WRITABLE;
    }
}

static void pci_bus_state(struct device *d, struct state *s)
{
    struct pci_bus *b = pci_bus_of(d);

    state_u32(s, &b->addr);
    state_u8(s, &b->rcr);
    state_require(s, !(b->rcr & ~PCI_RCR_WRITABLE), "unknown reset control bits");
}

static const struct device_ops pci_bus_ops = {
    .type = "pci-bus",
    .version = 1,
    .state = pci_bus_state,
};
static const struct io_ops pci_bus_io = { pci_bus_read, pci_bus_write, 1, 4 };

struct pci_bus *pci_bus_create(struct vm *vm, struct err *e)
{
    struct pci_bus *b = calloc(1, sizeof(*b));

    if (!b)
        return err_oom(e);
    b->dev = (struct device){ .ops = &pci_bus_ops, .vm = vm, .id = "pci" };
    if (bus_claim(vm_pio(vm), PCI_PORT, PCI_PORT_LEN, &pci_bus_io, &b->dev, e) ||
        device_add(vm, &b->dev, e)) {
        bus_release(vm_pio(vm), &b->dev);
        free(b);
        return NULL;
    }
    return b;
}

/* Function 0 of a slot says whether there are others. */
static void pci_bus_mark_multi(struct pci_bus *b, unsigned devfn)
{
    unsigned slot = devfn & ~7u;

    for (unsigned fn = 1; fn < 8; fn++)
        if (b->function[slot] && b->function[slot + fn])
            b->function[slot]->cfg[PCI_HEADER_TYPE] |= PCI_HDR_MULTI;
}

int pci_add(struct pci_bus *b, struct pci_dev *p, unsigned devfn, struct err *e)
{
    int rc;

    BUG_ON(devfn >= PCI_FUNCTIONS);
    if (b->function[devfn])
        return err_set(e, EEXIST, "%s: PCI slot %u.%u is taken by %s", p->dev.id, devfn >> 3,
                       devfn & 7, b->function[devfn]->dev.id);
    p->bus = b;
    p->devfn = (uint8_t)devfn;
    rc = device_add(p->dev.vm, &p->dev, e);
    if (rc) {
        p->bus = NULL;
        return rc;
    }
    b->function[devfn] = p;
    pci_bus_mark_multi(b, devfn);
    return 0;
}

/* --- direct boot --- */

struct pci_space {
    uint64_t next, end; /* end: last address + 1 */
};

static uint64_t pci_space_take(struct pci_space *space, uint64_t size)
{
    uint64_t at = align_up(space->next, size), end;

    if (at < space->next || ckd_add(&end, at, size) || end > space->end)
        return PCI_UNMAPPED;
    space->next = end;
    return at;
}

static int pci_assign_bar(struct pci_dev *p, unsigned n, struct pci_space *io,
                          struct pci_space *mem, struct pci_space *mem64, struct err *e)
{
    struct pci_bar *bar = &p->bar[n];
    uint8_t *reg = p->cfg + PCI_BAR0 + 4 * n;
    uint64_t at = pci_space_take(bar->io ? io : mem, bar->size);

    if (at == PCI_UNMAPPED && bar->mem64)
        at = pci_space_take(mem64, bar->size);
    if (at == PCI_UNMAPPED)
        return err_set(e, ENOSPC, "%s: no room for the %llu bytes of its PCI BAR %u", p->dev.id,
                       (unsigned long long)bar->size, n);
    st_le32(reg, (ld_le32(reg) & (bar->io ? 0x3u : 0xfu)) | (uint32_t)at);
    if (bar->mem64)
        st_le32(reg + 4, (uint32_t)(at >> 32));
    return 0;
}

/* One round a size, largest first, so that alignment wastes nothing. */
static int pci_assign_size(struct pci_bus *b, uint64_t size, struct pci_space *io,
                           struct pci_space *mem, struct pci_space *mem64, struct err *e)
{
    int rc = 0;

    for (unsigned i = 0; i < PCI_FUNCTIONS && !rc; i++)
        for (unsigned n = 0; n < PCI_NBARS && b->function[i] && !rc; n++)
            if (b->function[i]->bar[n].size == size)
                rc = pci_assign_bar(b->function[i], n, io, mem, mem64, e);
    return rc;
}

static void pci_assign_enable(struct pci_dev *p)
{
    uint16_t cmd = ld_le16(p->cfg + PCI_COMMAND);

    for (unsigned n = 0; n < PCI_NBARS; n++)
        if (p->bar[n].size)
            cmd |= p->bar[n].io ? PCI_CMD_IO : PCI_CMD_MEM;
    st_le16(p->cfg + PCI_COMMAND, cmd);
}

int pci_assign(struct pci_bus *b, uint64_t mmio_base, uint64_t mmio_len, uint16_t io_base,
               uint64_t mmio64_base, struct err *e)
{
    struct pci_space io = { io_base, 0x10000 }, mem = { mmio_base, mmio_base + mmio_len };
    struct pci_space mem64 = { mmio64_base, 1ull << 46 };

    for (unsigned shift = 46; shift-- > 2;) {
        int rc = pci_assign_size(b, BIT64(shift), &io, &mem, &mem64, e);

        if (rc)
            return rc;
    }
    for (unsigned i = 0; i < PCI_FUNCTIONS; i++)
        if (b->function[i])
            pci_assign_enable(b->function[i]);
    pci_bus_remap(b);
    return 0;
}
