/*
 * ata.c: the commands of an ATA hard disk (ATA/ATAPI-7 volume 1, 6). Not modelled: queued commands, security,
 * power management beyond saying yes, logs; SMART tells only that the disk is well.
 */
#include "hw/ide_impl.h"

#include <string.h>

enum { ATA_SECTOR = BLK_SECTOR, ATA_ID_LEN = 512 };
enum {                     /* how a command's address and data are to be read */
       ATA_EXT = BIT(0),   /* 48-bit: registers with what they held before */
       ATA_WRITE = BIT(1), /* data goes to the disk */
       ATA_MULTI = BIT(2), /* stretches of several sectors */
       ATA_FUA = BIT(3)
};
enum {
    SMART_READ_DATA = 0xd0,
    SMART_THRESHOLDS = 0xd1,
    SMART_AUTOSAVE = 0xd2,
    SMART_OFFLINE = 0xd4,
    SMART_ENABLE = 0xd8,
    SMART_DISABLE = 0xd9,
    SMART_STATUS = 0xda,
    SMART_KEY1 = 0x4f,
    SMART_KEY2 = 0xc2,
    SMART_VERSION = 0x10,
};
enum { FEATURE_CACHE_ON = 0x02, FEATURE_MODE = 0x03, FEATURE_CACHE_OFF = 0x82 };

struct ata_op {
    uint8_t code, flags;
    void (*run)(struct ide_drive *d, unsigned flags);
};

/* --- addresses --- */

/* The three address registers, the lowest first, and for 28 bits four of Device. */
static uint64_t ata_lba(const struct ide_drive *d, unsigned flags)
{
    const uint8_t *r = d->reg, *h = d->hob;
    uint64_t low = (uint64_t)r[IDE_LBA2] << 16 | (uint64_t)r[IDE_LBA1] << 8 | r[IDE_LBA0];
    uint64_t high = (uint64_t)h[IDE_LBA2] << 16 | (uint64_t)h[IDE_LBA1] << 8 | h[IDE_LBA0];
    unsigned head = d->ch->device & 15;

    if (flags & ATA_EXT)
        return high << 24 | low;
    if (d->ch->device & ATA_DEV_LBA)
        return (uint64_t)head << 24 | low;
    if (!r[IDE_LBA0] || r[IDE_LBA0] > d->sectors || head >= d->heads)
        return UINT64_MAX;
    return ((low >> 8) * d->heads + head) * d->sectors + r[IDE_LBA0] - 1;
}

static void ata_put_lba(struct ide_drive *d, uint64_t lba, unsigned flags)
{
    for (unsigned i = 0; i < 3; i++) {
        d->reg[IDE_LBA0 + i] = (uint8_t)(lba >> (8 * i));
        d->hob[IDE_LBA0 + i] = (uint8_t)(lba >> (24 + 8 * i));
    }
    if (!(flags & ATA_EXT))
        d->ch->device = (uint8_t)((d->ch->device & 0xf0) | (lba >> 24 & 15));
}

static uint32_t ata_count(const struct ide_drive *d, unsigned flags)
{
    uint32_t n = d->reg[IDE_COUNT], max = flags & ATA_EXT ? 65536 : 256;

    if (flags & ATA_EXT)
        n |= (uint32_t)d->hob[IDE_COUNT] << 8;
    return n ? n : max;
}

/* Where the command goes, in bytes; false: it has failed because that is not on the disk. */
static bool ata_range(struct ide_drive *d, unsigned flags, uint64_t *off, uint64_t *len)
{
    uint64_t lba = ata_lba(d, flags), n = ata_count(d, flags);

    if (lba > d->max || n > d->max - lba) {
        ide_fail(d, ATA_IDNF);
        return false;
    }
    *off = lba * ATA_SECTOR;
    *len = n * ATA_SECTOR;
    return true;
}

/* --- data --- */

static bool ata_fua(const struct ide_drive *d, unsigned flags)
{
    return (flags & ATA_FUA) || !d->write_cache;
}

static void ata_pio(struct ide_drive *d, unsigned flags)
{
    uint32_t block = ATA_SECTOR;
    uint64_t off, len;

    if ((flags & ATA_MULTI) && !d->multiple) {
        ide_fail(d, ATA_ABRT);
        return;
    }
    if (flags & ATA_MULTI)
        block *= d->multiple;
    if (!ata_range(d, flags, &off, &len))
        return;
    if (flags & ATA_WRITE)
        ide_pio_write(d, off, len, block, ata_fua(d, flags));
    else
        ide_pio_read(d, off, len, block);
}

static void ata_dma(struct ide_drive *d, unsigned flags)
{
    uint64_t off, len;

    if (ata_range(d, flags, &off, &len))
        ide_dma_disk(d, off, len, flags & ATA_WRITE, ata_fua(d, flags));
}

static void ata_verify(struct ide_drive *d, unsigned flags)
{
    uint64_t off, len;

    if (ata_range(d, flags, &off, &len))
        ide_end(d);
}

static void ata_flush(struct ide_drive *d, unsigned flags)
{
    (void)flags;
    d->ch->x.write = true;
    ide_submit(d->ch, BLK_FLUSH, 0, 0, 0, ide_io_end);
}

static void ata_identify_device(struct ide_drive *d, unsigned flags)
{
    (void)flags;
    ata_identify(d, d->ch->buf);
    ide_pio_send(d, ATA_ID_LEN, ATA_ID_LEN);
}

/* --- settings --- */

static void ata_ok(struct ide_drive *d, unsigned flags)
{
    (void)flags;
    ide_end(d);
}

static void ata_params(struct ide_drive *d, unsigned flags)
{
    (void)flags;
    if (!d->reg[IDE_COUNT]) {
        ide_fail(d, ATA_ABRT);
        return;
    }
    d->sectors = d->reg[IDE_COUNT];
    d->heads = (uint8_t)((d->ch->device & 15) + 1);
    ide_end(d);
}

static void ata_set_multiple(struct ide_drive *d, unsigned flags)
{
    uint8_t n = d->reg[IDE_COUNT];

    (void)flags;
    if (n && (n > ATA_MAX_MULTIPLE || !is_pow2(n))) {
        ide_fail(d, ATA_ABRT);
        return;
    }
    d->multiple = n;
    ide_end(d);
}

/* PIO 0 to 4, multiword DMA 0 to 2, Ultra DMA 0 to 5: kind in bits 7:3. */
static bool ata_mode_known(uint8_t mode)
{
    unsigned kind = mode >> 3, n = mode & 7;

    return (kind == 0 && n <= 1) || (kind == 1 && n <= 4) || (kind == 4 && n <= 2) ||
           (kind == 8 && n <= 5);
}

static void ata_set_features(struct ide_drive *d, unsigned flags)
{
    (void)flags;
    switch (d->reg[IDE_FEATURE]) {
    case FEATURE_CACHE_ON:
        d->write_cache = true;
        ide_end(d);
        break;
    case FEATURE_CACHE_OFF: /* what is in it has to be written */
        d->write_cache = false;
        ata_flush(d, 0);
        break;
    case FEATURE_MODE:
        if (!ata_mode_known(d->reg[IDE_COUNT])) {
            ide_fail(d, ATA_ABRT);
            break;
        }
        d->mode = d->reg[IDE_COUNT];
        ide_end(d);
        break;
    case 0x55: /* read look-ahead off, on */
    case 0xaa:
    case 0x66: /* keep settings over a reset, or not */
    case 0xcc:
        ide_end(d);
        break;
    default:
        ide_fail(d, ATA_ABRT);
        break;
    }
}

static void ata_native_max(struct ide_drive *d, unsigned flags)
{
    uint64_t last = d->disk->size / ATA_SECTOR - 1;

    ata_put_lba(d, flags & ATA_EXT ? last : min_u64(last, 0x0fffffff), flags);
    ide_end(d);
}

/* Volatile only: bit 0 of the count would ask for more. */
static void ata_set_max(struct ide_drive *d, unsigned flags)
{
    uint64_t lba = ata_lba(d, flags);

    if ((d->reg[IDE_COUNT] & 1) || lba >= d->disk->size / ATA_SECTOR) {
        ide_fail(d, ATA_ABRT);
        return;
    }
    d->max = lba + 1;
    ide_end(d);
}

static void ata_check_power(struct ide_drive *d, unsigned flags)
{
    (void)flags;
    d->reg[IDE_COUNT] = 0xff; /* active */
    ide_end(d);
}

/* --- SMART --- */

static void ata_smart_page(struct ide_drive *d)
{
    uint8_t *p = d->ch->buf, sum = 0;

    memset(p, 0, ATA_SECTOR);
    p[0] = SMART_VERSION;
    for (unsigned i = 0; i < ATA_SECTOR - 1; i++)
        sum = (uint8_t)(sum + p[i]);
    p[ATA_SECTOR - 1] = (uint8_t)-sum;
    ide_pio_send(d, ATA_SECTOR, ATA_SECTOR);
}

static void ata_smart(struct ide_drive *d, unsigned flags)
{
    uint8_t what = d->reg[IDE_FEATURE];

    (void)flags;
    if (d->reg[IDE_LBA1] != SMART_KEY1 || d->reg[IDE_LBA2] != SMART_KEY2 ||
        (!d->smart && what != SMART_ENABLE)) {
        ide_fail(d, ATA_ABRT);
        return;
    }
    switch (what) {
    case SMART_READ_DATA:
    case SMART_THRESHOLDS:
        ata_smart_page(d);
        break;
    case SMART_ENABLE:
    case SMART_DISABLE:
        d->smart = what == SMART_ENABLE;
        ide_end(d);
        break;
    case SMART_AUTOSAVE:
    case SMART_OFFLINE:
    case SMART_STATUS: /* the key stays as it is: all is well */
        ide_end(d);
        break;
    default:
        ide_fail(d, ATA_ABRT);
        break;
    }
}

/* --- the table --- */

static const struct ata_op ata_ops[] = {
    { 0x20, 0, ata_pio },
    { 0x21, 0, ata_pio },
    { 0x24, ATA_EXT, ata_pio },
    { 0x25, ATA_EXT, ata_dma },
    { 0x27, ATA_EXT, ata_native_max },
    { 0x29, ATA_EXT | ATA_MULTI, ata_pio },
    { 0x30, ATA_WRITE, ata_pio },
    { 0x31, ATA_WRITE, ata_pio },
    { 0x34, ATA_EXT | ATA_WRITE, ata_pio },
    { 0x35, ATA_EXT | ATA_WRITE, ata_dma },
    { 0x37, ATA_EXT, ata_set_max },
    { 0x39, ATA_EXT | ATA_WRITE | ATA_MULTI, ata_pio },
    { 0x3d, ATA_EXT | ATA_WRITE | ATA_FUA, ata_dma },
    { 0x40, 0, ata_verify },
    { 0x41, 0, ata_verify },
    { 0x42, ATA_EXT, ata_verify },
    { 0x91, 0, ata_params },
    { 0x94, 0, ata_ok }, /* standby, idle, sleep: by their old and their new numbers */
    { 0x95, 0, ata_ok },
    { 0x96, 0, ata_ok },
    { 0x97, 0, ata_ok },
    { 0x98, 0, ata_check_power },
    { 0x99, 0, ata_ok },
    { 0xb0, 0, ata_smart },
    { 0xc4, ATA_MULTI, ata_pio },
    { 0xc5, ATA_WRITE | ATA_MULTI, ata_pio },
    { 0xc6, 0, ata_set_multiple },
    { 0xc8, 0, ata_dma },
    { 0xc9, 0, ata_dma },
    { 0xca, ATA_WRITE, ata_dma },
    { 0xcb, ATA_WRITE, ata_dma },
    { 0xce, ATA_EXT | ATA_WRITE | ATA_MULTI | ATA_FUA, ata_pio },
    { 0xe0, 0, ata_ok },
    { 0xe1, 0, ata_ok },
    { 0xe2, 0, ata_ok },
    { 0xe3, 0, ata_ok },
    { 0xe5, 0, ata_check_power },
    { 0xe6, 0, ata_ok },
    { 0xe7, 0, ata_flush },
    { 0xea, 0, ata_flush },
    { 0xec, 0, ata_identify_device },
    { 0xef, 0, ata_set_features },
    { 0xf8, 0, ata_native_max },
    { 0xf9, 0, ata_set_max },
};

void ata_command(struct ide_drive *d, uint8_t command)
{
    if ((command & 0xf0) == 0x10 || (command & 0xf0) == 0x70) { /* recalibrate, seek */
        ide_end(d);
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(ata_ops); i++) {
        if (ata_ops[i].code == command) {
            ata_ops[i].run(d, ata_ops[i].flags);
            return;
        }
    }
    ide_fail(d, ATA_ABRT);
}
