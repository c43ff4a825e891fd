/*
 * ide.c: the PCI function of the IDE controller: see ide.h and ide_impl.h. Both channels are in compatibility
 * mode: their ports answer whatever the configuration space says, like on machines whose firmware has set it
 * up. The timing registers can be written, but nothing depends on them.
 *
 * Locking: the device lock, for all of it; completions come on the loop thread and take it.
 */
#include "hw/ide_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"

enum {
    IDE_CLASS = 0x010180, /* compatibility mode, bus master */
    IDE_TIMING = 0x40,    /* of two channels, 16 bits each; then of slaves */
    IDE_TIMING_LEN = 5,
    IDE_TIMING_DECODE = 0x8000,
    IDE_BM_BAR = 4,
    IDE_BM_LEN = 16,
    IDE_BM_CHANNEL = 8, /* bytes of a channel's registers */
    IDE_BLOCK_LEN = 8,
};

static struct ide *ide_of(struct device *d)
{
    return container_of(d, struct ide, pci.dev);
}

/* --- ports --- */

static uint64_t ide_command_read(struct ide_channel *ch, uint64_t off, unsigned size)
{
    uint64_t val = 0;

    if (off == ATA_DATA)
        return ide_pio_data_read(ch, size);
    for (unsigned i = 0; i < size; i++)
        val |= (uint64_t)ide_channel_read(ch, (unsigned)off + i) << (8 * i);
    return val;
}

static void ide_command_write(struct ide_channel *ch, uint64_t off, unsigned size, uint64_t val)
{
    if (off == ATA_DATA) {
        ide_pio_data_write(ch, size, (uint32_t)val);
        return;
    }
    for (unsigned i = 0; i < size; i++)
        ide_channel_write(ch, (unsigned)off + i, (uint8_t)(val >> (8 * i)));
}

/* The ports of the two channels differ in who answers. */
#define IDE_PORTS(n)                                                                               \
    static uint64_t ide_read_##n(struct device *d, uint64_t off, unsigned size)                    \
    {                                                                                              \
        return ide_command_read(&ide_of(d)->ch[n], off, size);                                     \
    }                                                                                              \
    static void ide_write_##n(struct device *d, uint64_t off, unsigned size, uint64_t val)         \
    {                                                                                              \
        ide_command_write(&ide_of(d)->ch[n], off, size, val);                                      \
    }                                                                                              \
    static uint64_t ide_status_##n(struct device *d, uint64_t off, unsigned size)                  \
    {                                                                                              \
        (void)off;                                                                                 \
        (void)size;                                                                                \
        return ide_channel_alt_status(&ide_of(d)->ch[n]);                                          \
    }                                                                                              \
    static void ide_control_##n(struct device *d, uint64_t off, unsigned size, uint64_t val)       \
    {                                                                                              \
        (void)off;                                                                                 \
        (void)size;                                                                                \
        ide_channel_control(&ide_of(d)->ch[n], (uint8_t)val);                                      \
    }
IDE_PORTS(0)
IDE_PORTS(1)

static const struct io_ops ide_command_io[IDE_CHANNELS] = { { ide_read_0, ide_write_0, 1, 4 },
                                                            { ide_read_1, ide_write_1, 1, 4 } };
static const struct io_ops ide_control_io[IDE_CHANNELS] = { { ide_status_0, ide_control_0, 1, 1 },
                                                            { ide_status_1, ide_control_1, 1, 1 } };

static uint64_t ide_bm_bar_read(struct device *d, uint64_t off, unsigned size)
{
    uint64_t val = 0;

    for (unsigned i = 0; i < size; i++, off++)
        val |= (uint64_t)ide_bm_read(&ide_of(d)->ch[off / IDE_BM_CHANNEL], off % IDE_BM_CHANNEL)
               << (8 * i);
    return val;
}

static void ide_bm_bar_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    for (unsigned i = 0; i < size; i++, off++)
        ide_bm_write(&ide_of(d)->ch[off / IDE_BM_CHANNEL], off % IDE_BM_CHANNEL,
                     (uint8_t)(val >> (8 * i)));
}

static const struct io_ops ide_bm_io = { ide_bm_bar_read, ide_bm_bar_write, 1, 4 };

/* --- the device --- */

static void ide_state(struct device *d, struct state *s)
{
    struct ide *ide = ide_of(d);

    pci_state(&ide->pci, s);
    for (unsigned i = 0; i < IDE_CHANNELS; i++)
        ide_channel_state(&ide->ch[i], s);
}

static void ide_sync(struct device *d)
{
    struct ide *ide = ide_of(d);

    pci_sync(&ide->pci);
    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        ide_channel_sync(&ide->ch[i]);
        ide_resume(&ide->ch[i]);
    }
}

static void ide_quiesce(struct device *d)
{
    struct ide *ide = ide_of(d);

    for (unsigned i = 0; i < IDE_DRIVES; i++) {
        struct blk *disk = ide->ch[i / IDE_UNITS].drive[i % IDE_UNITS].ata.disk;

        if (disk)
            blk_drain(disk);
    }
}

static void ide_destroy(struct device *d)
{
    struct ide *ide = ide_of(d);

    for (unsigned i = 0; i < IDE_DRIVES; i++)
        blk_close(ide->ch[i / IDE_UNITS].drive[i % IDE_UNITS].ata.disk);
    free(ide);
}

static const struct device_ops ide_ops = {
    .type = "piix3-ide",
    .version = 3, /* 2: with what is to be done again; 3: with geometries */
    .state = ide_state,
    .sync = ide_sync,
    .quiesce = ide_quiesce,
    .destroy = ide_destroy,
};

static void ide_init_pci(struct ide *ide, struct vm *vm)
{
    struct pci_dev *pci = &ide->pci;

    pci_init(pci, &ide_ops, vm, "ide", 0x8086, 0x7010, IDE_CLASS, 0);
    pci_add_bar(pci, IDE_BM_BAR, IDE_BM_LEN, true, false, &ide_bm_io);
    for (unsigned i = 0; i < IDE_CHANNELS; i++)
        st_le16(pci->cfg + IDE_TIMING + 2 * i, IDE_TIMING_DECODE);
    memset(pci->wmask + IDE_TIMING, 0xff, IDE_TIMING_LEN);
}

static void ide_init_channel(struct ide *ide, unsigned n, const struct ide_at *at,
                             const struct ide_media *media)
{
    struct ide_channel *ch = &ide->ch[n];

    ch->ide = ide;
    ch->irq = at->irq;
    for (unsigned i = 0; i < IDE_UNITS; i++) {
        struct ide_drive *d = &ch->drive[i];

        d->ch = ch;
        d->ata.chs = media[i].chs;
        ata_power_on(&d->ata, media[i].disk, media[i].cdrom);
        if (media[i].serial)
            snprintf(d->ata.serial, sizeof(d->ata.serial), "%s", media[i].serial);
        else
            snprintf(d->ata.serial, sizeof(d->ata.serial), "RU%05u", n * IDE_UNITS + i + 1);
    }
    ide_channel_power_on(ch);
}

static int ide_claim(struct ide *ide, struct vm *vm, const struct ide_at at[IDE_CHANNELS],
                     struct err *e)
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < IDE_CHANNELS; i++) {
        rc = bus_claim(vm_pio(vm), at[i].command, IDE_BLOCK_LEN, &ide_command_io[i], &ide->pci.dev,
                       e);
        if (!rc)
            rc = bus_claim(vm_pio(vm), at[i].control, 1, &ide_control_io[i], &ide->pci.dev, e);
    }
    return rc;
}

int ide_create(struct vm *vm, struct pci_bus *bus, unsigned devfn,
               const struct ide_at at[IDE_CHANNELS], const struct ide_media media[IDE_DRIVES],
               struct err *e)
{
    struct ide *ide = calloc(1, sizeof(*ide));
    int rc;

    if (!ide)
        return err_set(e, ENOMEM, "out of memory");
    ide_init_pci(ide, vm);
    for (unsigned i = 0; i < IDE_CHANNELS; i++)
        ide_init_channel(ide, i, &at[i], &media[i * IDE_UNITS]);
    rc = ide_claim(ide, vm, at, e);
    if (!rc)
        rc = pci_add(bus, &ide->pci, devfn, e);
    if (rc) {
        bus_release(vm_pio(vm), &ide->pci.dev);
        free(ide);
    }
    return rc;
}
