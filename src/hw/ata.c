/*
 * ata.c: the commands of an ATA hard disk (ATA/ATAPI-7 volume 1, 6; ACS-3). Not modelled: security, power management
 * beyond saying yes; SMART tells only that the disk is well.
 */
#include "hw/ata.h"

#include <string.h>

enum { ATA_ID_LEN = 512, ATA_RESET_OK = 1 };
enum {                       /* how a command's address and data are to be read */
       ATA_F_EXT = BIT(0),   /* 48-bit: registers with what they held before */
       ATA_F_WRITE = BIT(1), /* data goes to the disk */
       ATA_F_MULTI = BIT(2), /* stretches of several sectors */
       ATA_F_FUA = BIT(3),
       ATA_F_DMA = BIT(4),
       ATA_F_SATA = BIT(5), /* only SATA drives know it */
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
    void (*run)(struct ata_drive *d, unsigned flags, struct ata_job *j);
};

void ata_fail(struct ata_job *j, uint8_t error)
{
    j->act = ATA_FAILED;
    j->error = error;
}

void ata_send(struct ata_job *j, uint32_t len)
{
    j->act = ATA_SEND;
    j->len = j->block = len;
}

/* --- addresses --- */

/* The three address registers, the lowest first, and for 28 bits four of Device. */
static uint64_t ata_lba(const struct ata_drive *d, unsigned flags)
{
    const uint8_t *r = d->reg, *h = d->hob;
    uint64_t low = (uint64_t)r[ATA_LBA2] << 16 | (uint64_t)r[ATA_LBA1] << 8 | r[ATA_LBA0];
    uint64_t high = (uint64_t)h[ATA_LBA2] << 16 | (uint64_t)h[ATA_LBA1] << 8 | h[ATA_LBA0];
    unsigned head = d->device & 15;

    if (flags & ATA_F_EXT)
        return high << 24 | low;
    if (d->device & ATA_DEV_LBA)
        return (uint64_t)head << 24 | low;
    if (!r[ATA_LBA0] || r[ATA_LBA0] > d->sectors || head >= d->heads)
        return UINT64_MAX;
    return ((low >> 8) * d->heads + head) * d->sectors + r[ATA_LBA0] - 1;
}

static void ata_put_lba(struct ata_drive *d, uint64_t lba, unsigned flags)
{
    for (unsigned i = 0; i < 3; i++) {
        d->reg[ATA_LBA0 + i] = (uint8_t)(lba >> (8 * i));
        d->hob[ATA_LBA0 + i] = (uint8_t)(lba >> (24 + 8 * i));
    }
    if (!(flags & ATA_F_EXT))
        d->device = (uint8_t)((d->device & 0xf0) | (lba >> 24 & 15));
}

static uint32_t ata_count(const struct ata_drive *d, unsigned flags)
{
    uint32_t n = d->reg[ATA_COUNT], max = flags & ATA_F_EXT ? 65536 : 256;

    if (flags & ATA_F_EXT)
        n |= (uint32_t)d->hob[ATA_COUNT] << 8;
    return n ? n : max;
}

/* Where the command goes, in bytes; false: it has failed because that is not on the disk. */
static bool ata_range(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    uint64_t lba = ata_lba(d, flags), n = ata_count(d, flags);

    if (lba > d->max || n > d->max - lba) {
        ata_fail(j, ATA_IDNF);
        return false;
    }
    j->off = lba * ATA_SECTOR;
    j->len = n * ATA_SECTOR;
    return true;
}

/* --- data --- */

static bool ata_fua(const struct ata_drive *d, unsigned flags)
{
    return (flags & ATA_F_FUA) || !d->write_cache;
}

static void ata_transfer(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    if (!ata_range(d, flags, j))
        return;
    j->act = flags & ATA_F_WRITE ? ATA_WRITE : ATA_READ;
    j->fua = (flags & ATA_F_WRITE) && ata_fua(d, flags);
}

static void ata_pio(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    if ((flags & ATA_F_MULTI) && !d->multiple) {
        ata_fail(j, ATA_ABRT);
        return;
    }
    j->block = ATA_SECTOR * (flags & ATA_F_MULTI ? d->multiple : 1u);
    ata_transfer(d, flags, j);
}

static void ata_dma(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    j->dma = true;
    ata_transfer(d, flags, j);
}

/* The count is where others have their features, and the tag where they have the count. */
static void ata_queued(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    d->reg[ATA_COUNT] = d->reg[ATA_FEATURE];
    d->hob[ATA_COUNT] = d->hob[ATA_FEATURE];
    ata_dma(d, flags | (d->device & ATA_DEV_FUA ? ATA_F_FUA : 0), j);
}

static void ata_log(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    j->dma = flags & ATA_F_DMA;
    ata_read_log(d, j);
}

static void ata_data_set(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    uint32_t n = ata_count(d, flags);

    if (!(d->reg[ATA_FEATURE] & 1) || n > ATA_TRIM_SECTORS || d->disk->readonly) {
        ata_fail(j, ATA_ABRT);
        return;
    }
    j->act = ATA_TRIM;
    j->dma = true;
    j->len = (uint64_t)n * ATA_SECTOR;
}

static void ata_verify(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    if (ata_range(d, flags, j))
        j->act = ATA_DONE;
}

static void ata_flush(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    (void)d;
    (void)flags;
    j->act = ATA_FLUSH;
}

static void ata_identify_device(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    (void)flags;
    ata_identify(d, j->buf);
    ata_send(j, ATA_ID_LEN);
}

/* --- settings --- */

static void ata_ok(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    (void)d;
    (void)flags;
    j->act = ATA_DONE;
}

static void ata_params(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    (void)flags;
    if (!d->reg[ATA_COUNT]) {
        ata_fail(j, ATA_ABRT);
        return;
    }
    d->sectors = d->reg[ATA_COUNT];
    d->heads = (uint8_t)((d->device & 15) + 1);
}

static void ata_set_multiple(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    uint8_t n = d->reg[ATA_COUNT];

    (void)flags;
    if (n && (n > ATA_MAX_MULTIPLE || !is_pow2(n))) {
        ata_fail(j, ATA_ABRT);
        return;
    }
    d->multiple = n;
}

/* PIO 0 to 4, multiword DMA 0 to 2, Ultra DMA 0 to 5: kind in bits 7:3. */
static bool ata_mode_known(uint8_t mode)
{
    unsigned kind = mode >> 3, n = mode & 7;

    return (kind == 0 && n <= 1) || (kind == 1 && n <= 4) || (kind == 4 && n <= 2) ||
           (kind == 8 && n <= 5);
}

static void ata_set_features(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    (void)flags;
    switch (d->reg[ATA_FEATURE]) {
    case FEATURE_CACHE_ON:
        d->write_cache = true;
        break;
    case FEATURE_CACHE_OFF: /* what is in it has to be written */
        d->write_cache = false;
        ata_flush(d, 0, j);
        break;
    case FEATURE_MODE:
        if (!ata_mode_known(d->reg[ATA_COUNT])) {
            ata_fail(j, ATA_ABRT);
            break;
        }
        d->mode = d->reg[ATA_COUNT];
        break;
    case 0x55: /* read look-ahead off, on */
    case 0xaa:
    case 0x66: /* keep settings over a reset, or not */
    case 0xcc:
        break;
    default:
        ata_fail(j, ATA_ABRT);
        break;
    }
}

static void ata_native_max(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    uint64_t last = d->disk->size / ATA_SECTOR - 1;

    j->act = ATA_DONE;
    ata_put_lba(d, flags & ATA_F_EXT ? last : min_u64(last, 0x0fffffff), flags);
}

/* Volatile only: bit 0 of the count would ask for more. */
static void ata_set_max(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    uint64_t lba = ata_lba(d, flags);

    if ((d->reg[ATA_COUNT] & 1) || lba >= d->disk->size / ATA_SECTOR) {
        ata_fail(j, ATA_ABRT);
        return;
    }
    d->max = lba + 1;
}

static void ata_check_power(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    (void)flags;
    j->act = ATA_DONE;
    d->reg[ATA_COUNT] = 0xff; /* active */
}

/* --- SMART --- */

static void ata_smart_page(struct ata_job *j)
{
    uint8_t *p = j->buf, sum = 0;

    memset(p, 0, ATA_SECTOR);
    p[0] = SMART_VERSION;
    for (unsigned i = 0; i < ATA_SECTOR - 1; i++)
        sum = (uint8_t)(sum + p[i]);
    p[ATA_SECTOR - 1] = (uint8_t)-sum;
    ata_send(j, ATA_SECTOR);
}

static void ata_smart(struct ata_drive *d, unsigned flags, struct ata_job *j)
{
    uint8_t what = d->reg[ATA_FEATURE];

    (void)flags;
    if (d->reg[ATA_LBA1] != SMART_KEY1 || d->reg[ATA_LBA2] != SMART_KEY2 ||
        (!d->smart && what != SMART_ENABLE)) {
        ata_fail(j, ATA_ABRT);
        return;
    }
    switch (what) {
    case SMART_READ_DATA:
    case SMART_THRESHOLDS:
        ata_smart_page(j);
        break;
    case SMART_ENABLE:
    case SMART_DISABLE:
        d->smart = what == SMART_ENABLE;
        break;
    case SMART_AUTOSAVE:
    case SMART_OFFLINE:
    case SMART_STATUS: /* the key stays as it is: all is well */
        break;
    default:
        ata_fail(j, ATA_ABRT);
        break;
    }
}

/* --- the table --- */

static const struct ata_op ata_ops[] = {
    { 0x06, ATA_F_EXT | ATA_F_SATA, ata_data_set },
    { 0x20, 0, ata_pio },
    { 0x21, 0, ata_pio },
    { 0x24, ATA_F_EXT, ata_pio },
    { 0x25, ATA_F_EXT, ata_dma },
    { 0x27, ATA_F_EXT, ata_native_max },
    { 0x29, ATA_F_EXT | ATA_F_MULTI, ata_pio },
    { 0x2f, ATA_F_EXT | ATA_F_SATA, ata_log },
    { 0x30, ATA_F_WRITE, ata_pio },
    { 0x31, ATA_F_WRITE, ata_pio },
    { 0x34, ATA_F_EXT | ATA_F_WRITE, ata_pio },
    { 0x35, ATA_F_EXT | ATA_F_WRITE, ata_dma },
    { 0x37, ATA_F_EXT, ata_set_max },
    { 0x39, ATA_F_EXT | ATA_F_WRITE | ATA_F_MULTI, ata_pio },
    { 0x3d, ATA_F_EXT | ATA_F_WRITE | ATA_F_FUA, ata_dma },
    { 0x40, 0, ata_verify },
    { 0x41, 0, ata_verify },
    { 0x42, ATA_F_EXT, ata_verify },
    { 0x47, ATA_F_EXT | ATA_F_DMA | ATA_F_SATA, ata_log },
    { 0x60, ATA_F_EXT | ATA_F_SATA, ata_queued },
    { 0x61, ATA_F_EXT | ATA_F_WRITE | ATA_F_SATA, ata_queued },
    { 0x91, 0, ata_params },
    { 0x94, 0, ata_ok }, /* standby, idle, sleep: by their old and their new numbers */
    { 0x95, 0, ata_ok },
    { 0x96, 0, ata_ok },
    { 0x97, 0, ata_ok },
    { 0x98, 0, ata_check_power },
    { 0x99, 0, ata_ok },
    { 0xb0, 0, ata_smart },
    { 0xc4, ATA_F_MULTI, ata_pio },
    { 0xc5, ATA_F_WRITE | ATA_F_MULTI, ata_pio },
    { 0xc6, 0, ata_set_multiple },
    { 0xc8, 0, ata_dma },
    { 0xc9, 0, ata_dma },
    { 0xca, ATA_F_WRITE, ata_dma },
    { 0xcb, ATA_F_WRITE, ata_dma },
    { 0xce, ATA_F_EXT | ATA_F_WRITE | ATA_F_MULTI | ATA_F_FUA, ata_pio },
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

void ata_disk_command(struct ata_drive *d, uint8_t command, struct ata_job *j)
{
    if ((command & 0xf0) == 0x10 || (command & 0xf0) == 0x70) /* recalibrate, seek */
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(ata_ops); i++) {
        if (ata_ops[i].code != command || ((ata_ops[i].flags & ATA_F_SATA) && !d->sata))
            continue;
        ata_ops[i].run(d, ata_ops[i].flags, j);
        return;
    }
    ata_fail(j, ATA_ABRT);
}

void ata_command(struct ata_drive *d, uint8_t command, struct ata_job *j)
{
    d->error = 0;
    d->status = ATA_READY;
    if (d->cdrom)
        atapi_command(d, command, j);
    else
        ata_disk_command(d, command, j);
}

/* --- the drive --- */

void ata_signature(struct ata_drive *d)
{
    d->reg[ATA_COUNT] = 1;
    d->reg[ATA_LBA0] = 1;
    d->reg[ATA_LBA1] = d->cdrom ? 0x14 : 0;
    d->reg[ATA_LBA2] = d->cdrom ? 0xeb : 0;
}

void ata_reset(struct ata_drive *d)
{
    ata_ncq_clear(d);
    d->error = ATA_RESET_OK;
    d->cd.locked = false;
    d->status = d->disk && !d->cdrom ? ATA_READY : 0;
    memset(d->hob, 0, sizeof(d->hob));
    ata_signature(d);
}

void ata_power_on(struct ata_drive *d, struct blk *disk, bool cdrom)
{
    d->disk = disk;
    d->cdrom = cdrom;
    cdrom_power_on(&d->cd, disk, false);
    if (disk && !cdrom) {
        d->write_cache = d->smart = true;
        d->multiple = ATA_MAX_MULTIPLE; /* drivers use it if it is set already */
        d->max = disk->size / ATA_SECTOR;
        if (!d->chs.heads)
            d->chs = ata_chs_usual(d->max);
        d->heads = d->chs.heads;
        d->sectors = d->chs.sectors;
    }
    ata_reset(d);
}

void ata_state(struct ata_drive *d, struct state *s)
{
    uint64_t here = d->disk && !d->cdrom ? d->disk->size : 0, size = here; /* media change */
    bool cdrom = d->cdrom;

    state_u64(s, &size);
    state_bool(s, &cdrom);
    state_require(s, (size == here || d->cdrom) && cdrom == d->cdrom, "there was another drive");
    state_bytes(s, d->reg, sizeof(d->reg));
    state_bytes(s, d->hob, sizeof(d->hob));
    state_u8(s, &d->status);
    state_u8(s, &d->error);
    state_u8(s, &d->multiple);
    state_u8(s, &d->mode);
    state_u8(s, &d->heads);
    state_u8(s, &d->sectors);
    state_bool(s, &d->write_cache);
    state_bool(s, &d->smart);
    state_u64(s, &d->max);
    cdrom_state(&d->cd, s);
    state_require(s, d->multiple <= ATA_MAX_MULTIPLE && d->max <= size / ATA_SECTOR,
                  "drive settings out of range");
    state_require(s, !d->disk || d->cdrom || (d->heads && d->sectors), "drive without a geometry");
}
