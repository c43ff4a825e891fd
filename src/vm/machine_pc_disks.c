/*
 * machine_pc_disks.c: the controllers of disks and CDs. Each is there only if something is attached to it:
 * probing what is empty takes guests their time.
 */
#include "vm/machine_pc_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hw/ahci.h"
#include "hw/nvme.h"
#include "virtio/virtio_blk.h"
#include "virtio/virtio_scsi.h"

#define PC_PCI_PATH "/pci@i0cf8"

static bool pc_is_at(const struct machine *m, unsigned index, enum config_bus bus)
{
    return config_disk_bus(&m->vm->cfg->disk[index]) == bus;
}

static unsigned pc_count_at(const struct machine *m, enum config_bus bus)
{
    unsigned n = 0;

    for (unsigned i = 0; i < m->vm->cfg->n_disks; i++)
        n += pc_is_at(m, i, bus);
    return n;
}

void pc_set_path(struct machine *m, unsigned index, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(m->disk_path[index], sizeof(m->disk_path[index]), format, args);
    va_end(args);
}

/* --- virtio --- */

static int pc_create_virtio_disk(struct machine *m, unsigned index, struct err *e)
{
    const struct config_disk *d = &m->vm->cfg->disk[index];
    struct blk *disk = pc_open_disk(m, index, e);
    int rc;

    if (!disk)
        return -e->code;
    pc_set_path(m, index, PC_PCI_PATH "/scsi@%x/disk@0,0", m->next_slot);
    snprintf(m->disk_id[index], sizeof(m->disk_id[index]), "disk%u", index);
    rc = virtio_blk_create(m->pci, pc_next_devfn(m), m->disk_id[index], disk, d->serial,
                           m->vm->cfg->cpus, e);
    if (rc)
        blk_close(disk);
    return rc;
}

int pc_create_virtio_disks(struct machine *m, struct err *e)
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < m->vm->cfg->n_disks; i++)
        if (pc_is_at(m, i, CONFIG_BUS_VIRTIO))
            rc = pc_create_virtio_disk(m, i, e);
    return rc;
}

/* --- IDE --- */

/* Disks in their order; CDs from the secondary master on, where systems expect the first. */
static unsigned pc_ide_place(const struct ide_media *media, bool cdrom)
{
    static const uint8_t order[2][IDE_DRIVES] = { { 0, 1, 2, 3 }, { 2, 3, 1, 0 } };
    unsigned i = 0;

    while (media[order[cdrom][i]].disk)
        i++; /* the configuration has at most four */
    return order[cdrom][i];
}

static int pc_open_ide(struct machine *m, struct ide_media *media, bool cdroms, struct err *e)
{
    for (unsigned i = 0; i < m->vm->cfg->n_disks; i++) {
        const struct config_disk *d = &m->vm->cfg->disk[i];
        struct blk *disk;
        unsigned place;

        if (!pc_is_at(m, i, CONFIG_BUS_IDE) || d->cdrom != cdroms)
            continue;
        disk = pc_open_disk(m, i, e);
        if (!disk)
            return -e->code;
        place = pc_ide_place(media, cdroms);
        media[place] = (struct ide_media){ .disk = disk, .cdrom = cdroms, .serial = d->serial };
        pc_set_path(m, i, PC_PCI_PATH "/ide@1,1/drive@%x/disk@%x", place / IDE_UNITS,
                    place % IDE_UNITS);
    }
    return 0;
}

static int pc_create_ide(struct machine *m, struct err *e)
{
    const struct ide_at at[IDE_CHANNELS] = {
        { PC_IDE0, PC_IDE0_CONTROL, pc_isa_irq(m, PC_IRQ_IDE) },
        { PC_IDE1, PC_IDE1_CONTROL, pc_isa_irq(m, PC_IRQ_IDE + 1) },
    };
    struct ide_media media[IDE_DRIVES] = { 0 };
    int rc;

    if (!pc_count_at(m, CONFIG_BUS_IDE))
        return 0;
    rc = pc_open_ide(m, media, true, e);
    if (!rc)
        rc = pc_open_ide(m, media, false, e);
    if (!rc) {
        pc_ide_geometry(m, media);
        rc = ide_create(m->vm, m->pci, PCI_DEVFN(1, 1), at, media, e);
    }
    for (unsigned i = 0; rc && i < IDE_DRIVES; i++)
        blk_close(media[i].disk);
    return rc;
}

/* --- AHCI --- */

static int pc_open_ahci(struct machine *m, struct ahci_media *media, struct err *e)
{
    unsigned n = 0;

    for (unsigned i = 0; i < m->vm->cfg->n_disks; i++) {
        const struct config_disk *d = &m->vm->cfg->disk[i];
        struct blk *disk;

        if (!pc_is_at(m, i, CONFIG_BUS_AHCI))
            continue;
        disk = pc_open_disk(m, i, e);
        if (!disk)
            return -e->code;
        pc_set_path(m, i, PC_PCI_PATH "/pci8086,2922@%x/drive@%x/disk@0", m->next_slot, n);
        media[n++] = (struct ahci_media){ disk, d->cdrom, d->serial };
    }
    return 0;
}

static int pc_create_ahci(struct machine *m, struct err *e)
{
    struct ahci_media media[AHCI_PORTS] = { 0 };
    unsigned n = pc_count_at(m, CONFIG_BUS_AHCI);
    int rc;

    if (!n)
        return 0;
    rc = pc_open_ahci(m, media, e);
    if (!rc)
        rc = ahci_create(m->pci, pc_next_devfn(m), media, n, e);
    for (unsigned i = 0; rc && i < n; i++)
        blk_close(media[i].disk);
    return rc;
}

/* --- NVMe: a controller for each disk --- */

static int pc_create_nvme(struct machine *m, unsigned index, struct err *e)
{
    const struct config_disk *d = &m->vm->cfg->disk[index];
    struct blk *disk = pc_open_disk(m, index, e);
    int rc;

    if (!disk)
        return -e->code;
    pc_set_path(m, index, PC_PCI_PATH "/pci8086,5845@%x/namespace@1,0", m->next_slot);
    snprintf(m->disk_id[index], sizeof(m->disk_id[index]), "nvme%u", index);
    rc = nvme_create(m->pci, pc_next_devfn(m), m->disk_id[index], disk, d->serial, m->vm->cfg->cpus,
                     e);
    if (rc)
        blk_close(disk);
    return rc;
}

static int pc_create_nvmes(struct machine *m, struct err *e)
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < m->vm->cfg->n_disks; i++)
        if (pc_is_at(m, i, CONFIG_BUS_NVME))
            rc = pc_create_nvme(m, i, e);
    return rc;
}

/* --- virtio-scsi --- */

static int pc_open_scsi(struct machine *m, struct virtio_scsi_media *media, struct err *e)
{
    unsigned n = 0;

    for (unsigned i = 0; i < m->vm->cfg->n_disks; i++) {
        const struct config_disk *d = &m->vm->cfg->disk[i];
        struct blk *disk;

        if (!pc_is_at(m, i, CONFIG_BUS_SCSI))
            continue;
        disk = pc_open_disk(m, i, e);
        if (!disk)
            return -e->code;
        pc_set_path(m, i, PC_PCI_PATH "/scsi@%x/channel@0/disk@%x,0", m->next_slot, n);
        media[n++] = (struct virtio_scsi_media){ disk, d->cdrom, d->serial };
    }
    return 0;
}

static int pc_create_scsi(struct machine *m, struct err *e)
{
    struct virtio_scsi_media media[VIRTIO_SCSI_TARGETS] = { 0 };
    unsigned n = pc_count_at(m, CONFIG_BUS_SCSI);
    int rc;

    if (!n)
        return 0;
    rc = pc_open_scsi(m, media, e);
    if (!rc)
        rc = virtio_scsi_create(m->pci, pc_next_devfn(m), "scsi0", media, n, m->vm->cfg->cpus, e);
    for (unsigned i = 0; rc && i < n; i++)
        blk_close(media[i].disk);
    return rc;
}

int pc_create_disk_controllers(struct machine *m, struct err *e)
{
    int rc = pc_create_ide(m, e);

    if (!rc)
        rc = pc_create_ahci(m, e);
    if (!rc)
        rc = pc_create_nvmes(m, e);
    return rc ? rc : pc_create_scsi(m, e);
}
