/*
 * machine_pc_net.c: the network card of the `pc` machine: which chip, and its ROM for booting from the network.
 */
#include "vm/machine_pc_priv.h"

#include <stdio.h>
#include <string.h>

#include "boot/firmware.h"
#include "hw/e1000.h"
#include "hw/rtl8139.h"
#include "virtio/virtio_net.h"

typedef int pc_nic_create_fn(struct vm *vm, struct pci_bus *bus, unsigned devfn, const char *id,
                             const struct nic_opts *o, struct err *e);

static const struct pc_nic {
    const char *model, *rom; /* file name of the ROM */
    pc_nic_create_fn *create;
} pc_nics[] = {
    { "e1000", "efi-e1000.rom", e1000_create },
    { "rtl8139", "efi-rtl8139.rom", rtl8139_create },
    { "rtl8139c", "efi-rtl8139.rom", rtl8139c_create },
};

static int pc_create_virtio_net(struct machine *m, unsigned devfn, struct err *e)
{
    const struct vm_config *cfg = m->vm->cfg;
    struct virtio_net_opts o = { .backend = cfg->net, .cfg = cfg };

    memcpy(o.mac, cfg->mac, sizeof(o.mac));
    return virtio_net_create(m->vm, m->pci, devfn, "net0", &o, e);
}

static int pc_create_nic(struct machine *m, const struct pc_nic *nic, unsigned devfn, struct err *e)
{
    const struct vm_config *cfg = m->vm->cfg;
    struct nic_opts o = { .backend = cfg->net, .cfg = cfg };
    int rc;

    memcpy(o.mac, cfg->mac, sizeof(o.mac));
    if (cfg->firmware) /* it works without, but does not boot */
        firmware_load_net_rom(nic->rom, &o.rom, &o.rom_len);
    rc = nic->create(m->vm, m->pci, devfn, "net0", &o, e);
    if (rc)
        free(o.rom);
    return rc;
}

int pc_create_net(struct machine *m, unsigned devfn, struct err *e)
{
    const char *model = m->vm->cfg->net_model;

    m->net_slot = devfn >> 3;
    for (unsigned i = 0; model && i < ARRAY_SIZE(pc_nics); i++)
        if (!strcmp(model, pc_nics[i].model))
            return pc_create_nic(m, &pc_nics[i], devfn, e);
    return pc_create_virtio_net(m, devfn, e);
}
