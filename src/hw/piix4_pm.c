/*
 * piix4_pm.c: 82371AB function 3 (Intel 290562, 7): base address and enable bit of the power management
 * registers.
 *
 *   40  PMBASE      15:6 base | 0 is 1 (I/O)
 *   5b  DEVACTB     bit 1 (APMC_EN): set from power-on, which tells SeaBIOS that SMM has been set up
 *   80  PMREGMISC   bit 0: PMBASE is decoded
 *   90  SMBBA, d2 SMBHSTCFG: kept, but there is no SMBus
 *
 * Not modelled: SMM, SMBus, device monitors. Locking: the bus's and the function's device lock; the base
 * is also read without one.
 */
#include "hw/piix4_pm.h"

#include <string.h>

#include "base/endian.h"

enum {
    PIIX4_CLASS_BRIDGE = 0x068000,
    PIIX4_PMBASE = 0x40,
    PIIX4_PMBASE_MASK = 0xffc0,
    PIIX4_PMBASE_IO = 1,
    PIIX4_DEVACTB = 0x58,
    PIIX4_APMC_EN = 0x02, /* in its highest byte */
    PIIX4_PMREGMISC = 0x80,
    PIIX4_PMIOSE = BIT(0),
    PIIX4_SMBBA = 0x90,
    PIIX4_SMBHSTCFG = 0xd2,
    PIIX4_SCI = 9,
};

struct piix4_pm {
    struct pci_dev pci;
    struct acpi_pm *pm;
    uint16_t base; /* where the registers are now; derived from the configuration space */
};

static struct piix4_pm *piix4_pm_of(struct device *d)
{
    return container_of(d, struct piix4_pm, pci.dev);
}

uint16_t piix4_pm_base(const struct piix4_pm *p)
{
    return __atomic_load_n(&p->base, __ATOMIC_RELAXED);
}

static void piix4_pm_update(struct piix4_pm *p)
{
    uint16_t base = 0;

    if (p->pci.cfg[PIIX4_PMREGMISC] & PIIX4_PMIOSE)
        base = ld_le16(p->pci.cfg + PIIX4_PMBASE) & PIIX4_PMBASE_MASK;
    if (base == p->base)
        return;
    __atomic_store_n(&p->base, base, __ATOMIC_RELAXED);
    acpi_pm_move(p->pm, base);
}

void piix4_pm_assign(struct piix4_pm *p, uint16_t base)
{
    st_le16(p->pci.cfg + PIIX4_PMBASE, base | PIIX4_PMBASE_IO);
    p->pci.cfg[PIIX4_PMREGMISC] |= PIIX4_PMIOSE;
    piix4_pm_update(p);
}

static void piix4_pm_cfg_written(struct pci_dev *p, unsigned off, unsigned size)
{
    (void)off;
    (void)size;
    piix4_pm_update(piix4_pm_of(&p->dev));
}

static void piix4_pm_state(struct device *d, struct state *s)
{
    pci_state(&piix4_pm_of(d)->pci, s);
}

static void piix4_pm_sync(struct device *d)
{
    pci_sync(&piix4_pm_of(d)->pci);
    piix4_pm_update(piix4_pm_of(d));
}

static const struct device_ops piix4_pm_ops = {
    .type = "piix4-pm",
    .version = 1,
    .state = piix4_pm_state,
    .sync = piix4_pm_sync,
};

struct piix4_pm *piix4_pm_create(struct vm *vm, struct pci_bus *bus, unsigned devfn,
                                 struct acpi_pm *pm, struct err *e)
{
    struct piix4_pm *p = calloc(1, sizeof(*p));
    struct pci_dev *pci = p ? &p->pci : NULL;

    if (!p)
        return err_oom(e);
    p->pm = pm;
    pci_init(pci, &piix4_pm_ops, vm, "piix4-pm", 0x8086, 0x7113, PIIX4_CLASS_BRIDGE, 3);
    pci_add_intx(pci);
    pci->cfg[PCI_INT_LINE] = PIIX4_SCI;
    st_le32(pci->cfg + PIIX4_PMBASE, PIIX4_PMBASE_IO);
    st_le16(pci->wmask + PIIX4_PMBASE, PIIX4_PMBASE_MASK);
    memset(pci->wmask + PIIX4_DEVACTB, 0xff, 4);
    pci->cfg[PIIX4_DEVACTB + 3] = PIIX4_APMC_EN;
    pci->wmask[PIIX4_PMREGMISC] = PIIX4_PMIOSE;
    st_le32(pci->cfg + PIIX4_SMBBA, PIIX4_PMBASE_IO);
    st_le16(pci->wmask + PIIX4_SMBBA, 0xfff0);
    pci->wmask[PIIX4_SMBHSTCFG] = 0x0f;
    pci->cfg_written = piix4_pm_cfg_written;
    if (pci_add(bus, pci, devfn, e)) {
        free(p);
        return NULL;
    }
    return p;
}
