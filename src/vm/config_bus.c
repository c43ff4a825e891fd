/*
 * config_bus.c: what disks and CDs can be attached to.
 */
#include "vm/config.h"

#include <errno.h>
#include <string.h>

static const struct {
    const char *word;
    bool cdrom;    /* takes CD-ROM drives, too */
    unsigned most; /* drives */
} config_buses[CONFIG_BUSES] = {
    [CONFIG_BUS_VIRTIO] = { "virtio", false, CONFIG_MAX_DISKS },
    [CONFIG_BUS_IDE] = { "ide", true, CONFIG_MAX_IDE },
    [CONFIG_BUS_AHCI] = { "ahci", true, CONFIG_MAX_DISKS },
    [CONFIG_BUS_NVME] = { "nvme", false, CONFIG_MAX_DISKS },
    [CONFIG_BUS_SCSI] = { "scsi", true, CONFIG_MAX_DISKS },
    [CONFIG_BUS_USB] = { "usb", true, CONFIG_MAX_DISKS }, /* config_check_usb() counts ports */
    [CONFIG_BUS_FLOPPY] = { "floppy", false, CONFIG_MAX_FLOPPIES },
};

enum config_bus config_disk_bus(const struct config_disk *d)
{
    unsigned i = CONFIG_BUS_VIRTIO;

    while (d->bus && i < CONFIG_BUSES && strcmp(d->bus, config_buses[i].word) != 0)
        i++;
    return (enum config_bus)i;
}

bool config_disk_is_hard(const struct config_disk *d)
{
    return !d->cdrom && config_disk_bus(d) != CONFIG_BUS_FLOPPY;
}

bool config_disk_is_empty(const struct config_disk *d)
{
    return !config_disk_is_hard(d) && !strcmp(d->path, CONFIG_NO_MEDIUM);
}

bool config_disk_is_ide(const struct config_disk *d)
{
    return config_disk_bus(d) == CONFIG_BUS_IDE;
}

const char *config_disk_linux_root(const struct config_disk *d)
{
    switch (config_disk_bus(d)) {
    case CONFIG_BUS_VIRTIO:
        return "/dev/vda";
    case CONFIG_BUS_NVME:
        return "/dev/nvme0n1";
    default:
        return "/dev/sda";
    }
}

int config_check_bus(const struct vm_config *c, const struct config_disk *d, struct err *e)
{
    enum config_bus bus = config_disk_bus(d);
    unsigned n = 0;

    if (bus == CONFIG_BUSES)
        return err_set(e, EINVAL, "disk %s: bus %s is not supported; known: " CONFIG_BUS_WORDS,
                       d->path, d->bus);
    if (d->cdrom && (!d->readonly || !config_buses[bus].cdrom))
        return err_set(
            e, EINVAL,
            "CD %s: a CD-ROM drive is readonly and at a bus that knows it: " CONFIG_BUS_CDROM_WORDS,
            d->path);
    for (unsigned i = 0; i < c->n_disks; i++)
        n += config_disk_bus(&c->disk[i]) == bus;
    if (n > config_buses[bus].most)
        return err_set(e, EINVAL, "%u disks and CDs at the bus %s are too many; it has room for %u",
                       n, config_buses[bus].word, config_buses[bus].most);
    return 0;
}
