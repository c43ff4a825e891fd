/*
 * pci_msix.c: MSI-X (PCI 3.0, 6.8.2): the table and the pending bits in one BAR.
 *
 *     0x000  entry 0: address low, high, data, control (bit 0: masked)
 *     0x010  entry 1 ...
 *     0x800  pending bits, one a vector
 *
 * Locking: the function's device lock.
 */
#include "base/endian.h"
#include "bus/pci.h"

enum {
    MSIX_CAP_LEN = 12,
    MSIX_BAR_SIZE = 4096,
    MSIX_PBA = 0x800,
    MSIX_ENTRY_SIZE = 16,
    MSIX_MASKED = 1,              /* in an entry's control word */
    MSIX_FUNCTION_MASK = 1 << 14, /* in the capability's control word */
    MSIX_ENABLE = 1 << 15,
};

static struct pci_dev *pci_msix_dev(struct device *d)
{
    return container_of(d, struct pci_dev, dev);
}

static uint16_t pci_msix_ctrl(const struct pci_dev *p)
{
    return ld_le16(p->cfg + p->msix.cap + 2);
}

bool pci_msix_enabled(const struct pci_dev *p)
{
    return p->msix.n && (pci_msix_ctrl(p) & MSIX_ENABLE);
}

/* A message is a write to memory, so a function that is no bus master cannot send one. */
static bool pci_msix_open(const struct pci_dev *p, unsigned vector)
{
    return !(pci_msix_ctrl(p) & MSIX_FUNCTION_MASK) && pci_bus_master(p) &&
           !(p->msix.entry[vector].ctrl & MSIX_MASKED);
}

void pci_msix_fire(struct pci_dev *p, unsigned vector)
{
    struct pci_msix *m = &p->msix;

    if (vector >= m->n || !pci_msix_enabled(p))
        return;
    if (pci_msix_open(p, vector))
        vm_msi(p->dev.vm, m->entry[vector].addr, m->entry[vector].data);
    else
        m->pending |= BIT64(vector);
}

void pci_msix_deliver(struct pci_dev *p)
{
    if (!pci_msix_enabled(p))
        return;
    for (unsigned i = 0; i < p->msix.n && p->msix.pending; i++) {
        if (!(p->msix.pending & BIT64(i)) || !pci_msix_open(p, i))
            continue;
        p->msix.pending &= ~BIT64(i);
        pci_msix_fire(p, i);
    }
}

static uint32_t pci_msix_read32(const struct pci_msix *m, uint64_t off)
{
    unsigned i = (unsigned)(off / MSIX_ENTRY_SIZE);

    if (off == MSIX_PBA)
        return (uint32_t)m->pending;
    if (off == MSIX_PBA + 4)
        return (uint32_t)(m->pending >> 32);
    if (i >= m->n)
        return 0;
    switch (off % MSIX_ENTRY_SIZE) {
    case 0:
        return (uint32_t)m->entry[i].addr;
    case 4:
        return (uint32_t)(m->entry[i].addr >> 32);
    case 8:
        return m->entry[i].data;
    default:
        return m->entry[i].ctrl;
    }
}

static void pci_msix_write32(struct pci_msix *m, uint64_t off, uint32_t val)
{
    unsigned i = (unsigned)(off / MSIX_ENTRY_SIZE);

    if (i >= m->n) /* the pending bits are read-only */
        return;
    switch (off % MSIX_ENTRY_SIZE) {
    case 0:
        m->entry[i].addr = (m->entry[i].addr & ~0xffffffffull) | val;
        break;
    case 4:
        m->entry[i].addr = (uint32_t)m->entry[i].addr | (uint64_t)val << 32;
        break;
    case 8:
        m->entry[i].data = val;
        break;
    default:
        m->entry[i].ctrl = val & MSIX_MASKED;
        break;
    }
}

static uint64_t pci_msix_read(struct device *d, uint64_t off, unsigned size)
{
    const struct pci_msix *m = &pci_msix_dev(d)->msix;
    uint64_t val = pci_msix_read32(m, off);

    return size == 8 ? val | (uint64_t)pci_msix_read32(m, off + 4) << 32 : val;
}

static void pci_msix_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct pci_dev *p = pci_msix_dev(d);

    pci_msix_write32(&p->msix, off, (uint32_t)val);
    if (size == 8)
        pci_msix_write32(&p->msix, off + 4, (uint32_t)(val >> 32));
    pci_msix_deliver(p);
}

static const struct io_ops pci_msix_io = { pci_msix_read, pci_msix_write, 4, 8 };

void pci_add_msix(struct pci_dev *p, unsigned bar, unsigned vectors)
{
    uint8_t cap = pci_add_cap(p, PCI_CAP_MSIX, MSIX_CAP_LEN);

    BUG_ON(!vectors || vectors > PCI_MSIX_MAX);
    p->msix = (struct pci_msix){ .n = vectors, .bar = bar, .cap = cap };
    for (unsigned i = 0; i < vectors; i++)
        p->msix.entry[i].ctrl = MSIX_MASKED;
    st_le16(p->cfg + cap + 2, (uint16_t)(vectors - 1));
    st_le16(p->wmask + cap + 2, MSIX_ENABLE | MSIX_FUNCTION_MASK);
    st_le32(p->cfg + cap + 4, bar);
    st_le32(p->cfg + cap + 8, MSIX_PBA | bar);
    pci_add_bar(p, bar, MSIX_BAR_SIZE, false, false, &pci_msix_io);
}
