/*
 * pci_msi.c: MSI with one message and a 64-bit address (PCI 3.0, 6.8.1). All of its state is in the
 * configuration space.
 *
 * Locking: the function's device lock.
 */
#include "base/endian.h"
#include "bus/pci.h"

enum {
    MSI_CAP_LEN = 14,
    MSI_CONTROL = 2,
    MSI_ADDRESS = 4,
    MSI_DATA = 12,
    MSI_ENABLE = 1,
    MSI_64BIT = 0x80,
};

void pci_add_msi(struct pci_dev *p)
{
    uint8_t cap = pci_add_cap(p, PCI_CAP_MSI, MSI_CAP_LEN);

    p->msi = cap;
    st_le16(p->cfg + cap + MSI_CONTROL, MSI_64BIT);
    st_le16(p->wmask + cap + MSI_CONTROL, MSI_ENABLE);
    st_le64(p->wmask + cap + MSI_ADDRESS, ~3ull);
    st_le16(p->wmask + cap + MSI_DATA, 0xffff);
}

bool pci_msi_enabled(const struct pci_dev *p)
{
    return p->msi && (p->cfg[p->msi + MSI_CONTROL] & MSI_ENABLE);
}

void pci_msi_fire(struct pci_dev *p)
{
    const uint8_t *cap = p->cfg + p->msi;

    if (pci_msi_enabled(p) && pci_bus_master(p))
        vm_msi(p->dev.vm, ld_le64(cap + MSI_ADDRESS), ld_le16(cap + MSI_DATA));
}
