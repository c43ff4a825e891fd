/*
 * pci.h: PCI functions: configuration space, BARs, INTx, MSI-X (PCI 3.0, PCIe base 7.5). Bus 0 only.
 * Locking: configuration accesses hold the function's device lock.
 */
#ifndef BUS_PCI_H
#define BUS_PCI_H

#include "bus/bus.h"

enum { PCI_CFG_SIZE = 256, PCI_NBARS = 6, PCI_SLOTS = 32, PCI_MSIX_MAX = 64 };

struct pci_dev;
struct pci_bar {
    uint64_t size; /* 0: none; power of two */
    bool io, mem64, prefetch;
    const struct io_ops *ops; /* NULL: nothing claimed (plain space) */
    uint64_t mapped_at;       /* where it is claimed now; ~0: not */
};
struct pci_msix {
    unsigned n;               /* vectors; 0: no MSI-X */
    unsigned bar;
    uint8_t cap;              /* offset of the capability */
    struct { uint64_t addr; uint32_t data, ctrl; } entry[PCI_MSIX_MAX];
    uint64_t pending;         /* bit a vector */
};
struct pci_dev {
    struct device dev; /* first */
    struct pci_bus *bus;
    uint8_t slot;
    uint8_t cfg[PCI_CFG_SIZE], wmask[PCI_CFG_SIZE], w1c[PCI_CFG_SIZE];
    struct pci_bar bar[PCI_NBARS];
    struct pci_msix msix;
    struct irq intx; /* given by the bus: pin A of the slot */
    bool intx_level;
    uint8_t next_cap;
    void (*cfg_written)(struct pci_dev *p, unsigned off, unsigned size); /* optional, after the write */
};

struct pci_bus;
struct pci_bus *pci_bus_create(struct vm *vm, struct err *e); /* claims 0xcf8-0xcff; a device itself */
/*
 * Wiring, before devices are added: route(opaque, slot, pin 0..3, level). mmio window for BAR assignment
 * by pci_assign() (direct boot has no firmware to do it).
 */
void pci_bus_route(struct pci_bus *b, void (*route)(void *opaque, unsigned slot, unsigned pin, bool level),
                   void *opaque);
/* Fills in ids and header; then add BARs and capabilities, then pci_add(). */
void pci_init(struct pci_dev *p, const struct device_ops *ops, struct vm *vm, const char *id,
              uint16_t vendor, uint16_t device, uint32_t class_code, uint8_t revision);
void pci_add_bar(struct pci_dev *p, unsigned n, uint64_t size, bool io, bool mem64,
                 const struct io_ops *ops);
uint8_t pci_add_cap(struct pci_dev *p, uint8_t id, uint8_t len); /* offset of it in cfg, zeroed */
void pci_add_msix(struct pci_dev *p, unsigned bar, unsigned vectors); /* table and PBA in a BAR of their own */
must_check int pci_add(struct pci_bus *b, struct pci_dev *p, unsigned slot, struct err *e); /* as device_add() */
/* For the device's own ops: its state() calls pci_state() first, its sync() pci_sync(), its reset() pci_reset(). */
void pci_state(struct pci_dev *p, struct state *s);
void pci_sync(struct pci_dev *p);
void pci_set_intx(struct pci_dev *p, bool level);
bool pci_msix_enabled(const struct pci_dev *p);
void pci_msix_fire(struct pci_dev *p, unsigned vector); /* masked: becomes pending */
bool pci_bus_master(const struct pci_dev *p);
/* Gives every BAR an address and enables decoding, as firmware would. */
must_check int pci_assign(struct pci_bus *b, uint64_t mmio_base, uint64_t mmio_len, uint16_t io_base,
                          uint64_t mmio64_base, struct err *e);

#endif
