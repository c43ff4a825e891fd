/*
 * pci.h: PCI functions: configuration space, BARs, INTx, MSI-X (PCI 3.0, PCIe base 7.5). Bus 0
 * only.
 *
 * Locking: configuration accesses hold the bus's own device lock and then the function's. Where
 * BARs are mapped changes only under the bus's lock, or while the vCPUs are stopped.
 */
#ifndef BUS_PCI_H
#define BUS_PCI_H

#include "bus/bus.h"

enum {
    PCI_CFG_SIZE = 256,
    PCI_NBARS = 6,
    PCI_ROM = 6,
    PCI_REGIONS = 7,
    PCI_SLOTS = 32,
    PCI_FUNCTIONS = 256,
    PCI_MSIX_MAX = 64
};

/* Standard header offsets and bits. */
enum {
    PCI_VENDOR = 0x00,
    PCI_DEVICE = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION = 0x08,
    PCI_CLASS = 0x09, /* prog-if, sub-class, class */
    PCI_CACHE_LINE = 0x0c,
    PCI_LATENCY = 0x0d,
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_SUBSYS_VENDOR = 0x2c,
    PCI_SUBSYS = 0x2e,
    PCI_ROM_BAR = 0x30,
    PCI_CAP_PTR = 0x34,
    PCI_INT_LINE = 0x3c,
    PCI_INT_PIN = 0x3d,

    PCI_CMD_IO = BIT(0),
    PCI_CMD_MEM = BIT(1),
    PCI_CMD_MASTER = BIT(2),
    PCI_CMD_INTX_OFF = BIT(10),
    PCI_STS_INTX = BIT(3),
    PCI_STS_CAPS = BIT(4),
    PCI_HDR_MULTI = 0x80,

    PCI_CAP_MSI = 0x05,
    PCI_CAP_VENDOR = 0x09,
    PCI_CAP_MSIX = 0x11,
};
#define PCI_DEVFN(slot, fn) ((unsigned)(slot) << 3 | (unsigned)(fn))
#define PCI_UNMAPPED        (~0ull)

struct pci_dev;
struct pci_bar {
    uint64_t size; /* 0: none; power of two */
    bool io, mem64, prefetch;
    const struct io_ops *ops; /* NULL: nothing claimed (plain space) */
    uint64_t mapped_at;       /* where it is claimed now; PCI_UNMAPPED: nowhere */
    bool conflict;            /* it should be mapped, but something else is there */
};
struct pci_msix {
    unsigned n; /* vectors; 0: no MSI-X */
    unsigned bar;
    uint8_t cap; /* offset of the capability */
    struct {
        uint64_t addr;
        uint32_t data, ctrl;
    } entry[PCI_MSIX_MAX];
    uint64_t pending; /* bit a vector */
};
struct pci_dev {
    struct device dev; /* first */
    struct pci_bus *bus;
    uint8_t devfn; /* slot << 3 | function */
    uint8_t cfg[PCI_CFG_SIZE], wmask[PCI_CFG_SIZE], w1c[PCI_CFG_SIZE];
    struct pci_bar bar[PCI_REGIONS]; /* the last is the expansion ROM */
    const uint8_t *rom;
    uint32_t rom_len;
    struct pci_msix msix;
    uint8_t msi;     /* offset of the capability; 0: no MSI */
    bool intx_level; /* what the device wants; the command register may hold it back */
    uint8_t next_cap, last_cap;
    /* Optional hooks, device lock held: before a read (to refresh cfg) and after a write. */
    void (*cfg_reading)(struct pci_dev *p, unsigned off, unsigned size);
    void (*cfg_written)(struct pci_dev *p, unsigned off, unsigned size);
    /* Optional: the BAR is at `at` now (PCI_UNMAPPED: nowhere). The device lock may be held or not. */
    void (*bar_moved)(struct pci_dev *p, unsigned bar, uint64_t at);
};

struct pci_bus;
/* Claims ports 0xcf8-0xcff, with the reset control register 0xcf9; a device itself, owned by vm. */
struct pci_bus *pci_bus_create(struct vm *vm, struct err *e);
/* Who hears pin 0 (INTA) to 3 (INTD) of a function; called with that function's lock held. */
typedef void pci_route_fn(void *opaque, unsigned devfn, unsigned pin, bool level);
/* Wiring, before functions that interrupt are added. */
void pci_bus_route(struct pci_bus *b, pci_route_fn *route, void *opaque);
struct vm *pci_bus_vm(const struct pci_bus *b);
/* The function at devfn or NULL. */
struct pci_dev *pci_bus_at(const struct pci_bus *b, unsigned devfn);

/* On a zeroed struct: ids and header; then BARs, capabilities, INTx, MSI-X; then pci_add(). */
void pci_init(struct pci_dev *p, const struct device_ops *ops, struct vm *vm, const char *id,
              uint16_t vendor, uint16_t device, uint32_t class_code, uint8_t revision);
void pci_set_subsystem(struct pci_dev *p, uint16_t vendor, uint16_t device);
/* size: a power of two, at least 4 (io) or 16. mem64 takes up BAR n + 1, too. */
void pci_add_bar(struct pci_dev *p, unsigned n, uint64_t size, bool io, bool mem64,
                 const struct io_ops *ops);
/*
 * An expansion ROM (an option ROM, a VGA BIOS): len bytes of data, which outlive the device. Firmware maps
 * it by a BAR of its own; direct boot leaves it unmapped.
 */
void pci_add_rom(struct pci_dev *p, const uint8_t *data, uint32_t len);
/* len includes the two bytes of id and next. Returns its offset in cfg; the rest is zero. */
uint8_t pci_add_cap(struct pci_dev *p, uint8_t id, uint8_t len);
void pci_add_intx(struct pci_dev *p); /* it has pin INTA */
void pci_add_msi(struct pci_dev *p);
/* Table and pending bits in a BAR of their own. */
void pci_add_msix(struct pci_dev *p, unsigned bar, unsigned vectors);
/* As device_add(); slot and function by PCI_DEVFN(); -EEXIST if that is taken. */
must_check int pci_add(struct pci_bus *b, struct pci_dev *p, unsigned devfn, struct err *e);

/*
 * For the device's own ops: its state() calls pci_state() first, its sync() pci_sync(). That is all
 * that the default reset needs.
 */
void pci_state(struct pci_dev *p, struct state *s);
void pci_sync(struct pci_dev *p);
/* The rest with the device lock held. */
void pci_set_intx(struct pci_dev *p, bool level);
/* Sends the one message, if MSI is enabled; then the device leaves INTx alone. */
bool pci_msi_enabled(const struct pci_dev *p);
void pci_msi_fire(struct pci_dev *p);
bool pci_msix_enabled(const struct pci_dev *p);
/* Sends the message; masked: it becomes pending. No such vector: nothing. */
void pci_msix_fire(struct pci_dev *p, unsigned vector);
bool pci_bus_master(const struct pci_dev *p);

/*
 * What firmware would do, for direct boot, vCPUs stopped: gives every BAR an address and enables
 * decoding. 64-bit BARs that do not fit below 4 GiB go to mmio64_base and up. -ENOSPC with a
 * sentence.
 */
must_check int pci_assign(struct pci_bus *b, uint64_t mmio_base, uint64_t mmio_len,
                          uint16_t io_base, uint64_t mmio64_base, struct err *e);

/* Between pci.c, pci_bus.c and pci_msix.c. */
uint8_t pci_cfg_read8(struct pci_dev *p, unsigned off);
void pci_cfg_write(struct pci_dev *p, unsigned off, unsigned size, uint32_t val); /* lock held */
uint64_t pci_bar_wanted(const struct pci_dev *p, unsigned n); /* by its registers */
void pci_bus_intx(struct pci_dev *p, bool level);
void pci_bus_remap(struct pci_bus *b);    /* makes the address spaces agree with all registers */
void pci_msix_deliver(struct pci_dev *p); /* pending vectors that nothing masks any more */

#endif
