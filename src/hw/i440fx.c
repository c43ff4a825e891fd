/*
 * i440fx.c: 82441FX PCI and memory controller (PMC; Intel 290549): shadow RAM (PAM) and SMRAM.
 *
 *   PAM registers 59-5f, a nibble a segment (bit 0: reads go to RAM, bit 1: writes do):
 *     59  7:4 f0000-fffff        5a  3:0 c0000-c3fff  7:4 c4000-c7fff    ...  5f  7:4 ec000-effff
 *   SMRAM register 72: 6 D_OPEN | 5 D_CLS | 4 D_LCK | 3 G_SMRAME | 2:0 = 010
 *
 * What is mapped in guest memory is the machine's affair, by i440fx_reads_ram() and so on. What cannot be
 * mapped comes here: reads that PCI would answer and nobody does, and writes to RAM under a ROM.
 * The subsystem ids are those by which SeaBIOS knows that there is a fw_cfg device.
 *
 * Not modelled: SMM itself (the PIIX4 says that it has been set up, so firmware leaves it alone), timing
 * and ECC registers. Locking: the bus holds the device lock.
 */
#include "hw/i440fx.h"

#include <string.h>

#include "mem/guest.h"

enum {
    I440FX_PAM = 0x59, /* 7 registers */
    I440FX_PAM_COUNT = 7,
    I440FX_PAM_F0000 = 12,
    I440FX_PAM_READ = BIT(0),
    I440FX_PAM_WRITE = BIT(1),
    I440FX_PAM_WRITABLE = 0x33,
    I440FX_SMRAMC = 0x72,
    I440FX_D_OPEN = BIT(6),
    I440FX_D_LCK = BIT(4),
    I440FX_SMRAMC_WRITABLE = 0x78,
    I440FX_SMRAMC_SEGMENT = 0x02,
    I440FX_CLASS_HOST_BRIDGE = 0x060000,
    I440FX_SUBSYS_VENDOR = 0x1af4,
    I440FX_SUBSYS = 0x1100,
};
enum { SEGMENT_LEN = 0x4000, SEGMENT_F0000_LEN = 0x10000 };

struct i440fx {
    struct pci_dev pci;
    struct ram_region *shadow; /* I440FX_SEGMENTS of them; NULL: none */
};

static struct i440fx *i440fx_of(struct device *d)
{
    return container_of(d, struct i440fx, pci.dev);
}

uint64_t i440fx_segment_at(unsigned segment)
{
    return I440FX_SHADOW + (uint64_t)segment * SEGMENT_LEN;
}

uint64_t i440fx_segment_len(unsigned segment)
{
    return segment == I440FX_PAM_F0000 ? SEGMENT_F0000_LEN : SEGMENT_LEN;
}

static unsigned i440fx_pam(const struct i440fx *h, unsigned segment)
{
    const uint8_t *pam = h->pci.cfg + I440FX_PAM;

    return segment == I440FX_PAM_F0000 ? pam[0] >> 4 : pam[1 + segment / 2] >> (segment % 2 * 4);
}

bool i440fx_reads_ram(const struct i440fx *h, unsigned segment)
{
    return i440fx_pam(h, segment) & I440FX_PAM_READ;
}

bool i440fx_writes_ram(const struct i440fx *h, unsigned segment)
{
    return i440fx_pam(h, segment) & I440FX_PAM_WRITE;
}

bool i440fx_smram_open(const struct i440fx *h)
{
    return h->pci.cfg[I440FX_SMRAMC] & I440FX_D_OPEN;
}

void i440fx_assign(struct i440fx *h)
{
    memset(h->pci.cfg + I440FX_PAM, I440FX_PAM_WRITABLE, I440FX_PAM_COUNT);
    h->pci.cfg[I440FX_PAM] &= h->pci.wmask[I440FX_PAM];
    vm_memory_changed(h->pci.dev.vm);
}

/* D_LCK closes the window and all of the register until the next reset. */
static void i440fx_lock_smram(struct i440fx *h)
{
    uint8_t *reg = h->pci.cfg + I440FX_SMRAMC;

    if (*reg & I440FX_D_LCK)
        *reg &= (uint8_t)~I440FX_D_OPEN;
    h->pci.wmask[I440FX_SMRAMC] = *reg & I440FX_D_LCK ? 0 : I440FX_SMRAMC_WRITABLE;
}

static bool i440fx_touches(unsigned off, unsigned size, unsigned reg, unsigned n)
{
    return off < reg + n && reg < off + size;
}

static void i440fx_cfg_written(struct pci_dev *p, unsigned off, unsigned size)
{
    struct i440fx *h = i440fx_of(&p->dev);
    bool pam = i440fx_touches(off, size, I440FX_PAM, I440FX_PAM_COUNT);
    bool smram = i440fx_touches(off, size, I440FX_SMRAMC, 1);

    if (smram)
        i440fx_lock_smram(h);
    if (pam || smram)
        vm_memory_changed(p->dev.vm);
}

static unsigned i440fx_segment_of(uint64_t off)
{
    return (unsigned)min_u64(off / SEGMENT_LEN, I440FX_PAM_F0000);
}

static uint64_t i440fx_shadow_read(struct device *d, uint64_t off, unsigned size)
{
    struct i440fx *h = i440fx_of(d);
    unsigned segment = i440fx_segment_of(off);
    uint64_t val = UINT64_MAX;

    if (h->shadow && i440fx_reads_ram(h, segment))
        memcpy(&val, h->shadow[segment].hva + (off - (uint64_t)segment * SEGMENT_LEN), size);
    return val;
}

/* RAM that is written while reads go to a ROM above it. */
static void i440fx_shadow_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct i440fx *h = i440fx_of(d);
    unsigned segment = i440fx_segment_of(off);
    uint64_t at = off - (uint64_t)segment * SEGMENT_LEN;

    if (!h->shadow || !i440fx_writes_ram(h, segment))
        return;
    memcpy(h->shadow[segment].hva + at, &val, size);
    guest_region_written(vm_mem(d->vm), &h->shadow[segment], at, size);
}

static void i440fx_state(struct device *d, struct state *s)
{
    struct i440fx *h = i440fx_of(d);

    h->pci.wmask[I440FX_SMRAMC] = I440FX_SMRAMC_WRITABLE; /* a load or a reset may unlock it */
    pci_state(&h->pci, s);
    i440fx_lock_smram(h);
}

static void i440fx_sync(struct device *d)
{
    pci_sync(&i440fx_of(d)->pci);
}

static const struct device_ops i440fx_ops = {
    .type = "i440fx",
    .version = 2,
    .state = i440fx_state,
    .sync = i440fx_sync,
};
static const struct io_ops i440fx_shadow_io = { i440fx_shadow_read, i440fx_shadow_write, 1, 8 };

struct i440fx *i440fx_create(struct vm *vm, struct pci_bus *bus, unsigned devfn,
                             struct ram_region *shadow, struct err *e)
{
    struct i440fx *h = calloc(1, sizeof(*h));
    struct pci_dev *p = &h->pci;

    if (!h)
        return err_oom(e);
    h->shadow = shadow;
    pci_init(p, &i440fx_ops, vm, "i440fx", 0x8086, 0x1237, I440FX_CLASS_HOST_BRIDGE, 2);
    pci_set_subsystem(p, I440FX_SUBSYS_VENDOR, I440FX_SUBSYS);
    memset(p->wmask + I440FX_PAM, I440FX_PAM_WRITABLE, I440FX_PAM_COUNT);
    p->wmask[I440FX_PAM] = I440FX_PAM_WRITABLE & 0xf0;
    p->wmask[I440FX_SMRAMC] = I440FX_SMRAMC_WRITABLE;
    p->cfg[I440FX_SMRAMC] = I440FX_SMRAMC_SEGMENT;
    p->cfg_written = i440fx_cfg_written;
    if (bus_claim(vm_mmio(vm), I440FX_SHADOW, I440FX_SHADOW_LEN, &i440fx_shadow_io, &p->dev, e) ||
        pci_add(bus, p, devfn, e)) {
        bus_release(vm_mmio(vm), &p->dev);
        free(h);
        return NULL;
    }
    return h;
}
