/*
 * scsi_info.c: what a SCSI unit says about itself: INQUIRY with vital product data, capacity, mode pages
 * (SPC-4 6.6, 7.5, 7.8; SBC-3 6.4, 6.5).
 */
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "hw/scsi_disk.h"

enum {
    VPD_PAGES = 0x00,
    VPD_SERIAL = 0x80,
    VPD_ID = 0x83,
    VPD_LIMITS = 0xb0,
    VPD_CHARACTERISTICS = 0xb1,
    VPD_PROVISIONING = 0xb2,
    VPD_HEAD = 4,
};
enum { PAGE_ERRORS = 0x01, PAGE_CACHE = 0x08, PAGE_CONTROL = 0x0a, PAGE_ALL = 0x3f };
enum { MODE_WP = 0x80, MODE_DPOFUA = 0x10, MODE_DBD = 0x08 };
enum { PHYSICAL_EXP = 3, TYPE_CDROM = 5, READ_CAPACITY16 = 0x10 };
enum { UNMAP_MOST = 255, UNMAP_BLOCKS = 1 << 22 }; /* ranges; blocks of a range */

struct scsi_info_op {
    uint8_t op;
    uint8_t alloc_at, alloc_len; /* where in the CDB the initiator says how much it takes */
    /* Fills out, which is zero; the reply's length, or 0: what is asked for there is not. */
    uint32_t (*build)(struct scsi_disk *u, const uint8_t *cdb, uint8_t *out);
};

/* Text without its NUL, padded with blanks. */
static void scsi_text(uint8_t *out, size_t len, const char *text)
{
    size_t n = strnlen(text, len);

    memset(out, ' ', len);
    memcpy(out, text, n);
}

/* --- vital product data --- */

static uint32_t scsi_vpd_pages(const struct scsi_disk *u, uint8_t *out)
{
    static const uint8_t pages[] = { VPD_PAGES,  VPD_SERIAL,          VPD_ID,
                                     VPD_LIMITS, VPD_CHARACTERISTICS, VPD_PROVISIONING };
    uint32_t n = u->cdrom ? 3 : sizeof(pages);

    memcpy(out, pages, n);
    return n;
}

static uint32_t scsi_vpd_serial(const struct scsi_disk *u, uint8_t *out)
{
    uint32_t n = (uint32_t)strlen(u->serial);

    memcpy(out, u->serial, n);
    return n;
}

/* One designator: vendor and serial number in ASCII, of the logical unit. */
static uint32_t scsi_vpd_id(const struct scsi_disk *u, uint8_t *out)
{
    uint32_t n = (uint32_t)strlen(u->serial);

    out[0] = 2; /* ASCII */
    out[1] = 1; /* T10 vendor */
    out[3] = (uint8_t)(8 + n);
    scsi_text(out + 4, 8, "RUCHE");
    memcpy(out + 12, u->serial, n);
    return 12 + n;
}

static uint32_t scsi_vpd_limits(const struct scsi_disk *u, uint8_t *out)
{
    out[0] = 1; /* WRITE SAME says how many blocks */
    out[3] = 8; /* blocks: of a good transfer's grain */
    if (!u->disk->readonly) {
        st_be32(out + 16, UNMAP_BLOCKS);
        st_be32(out + 20, UNMAP_MOST);
        st_be32(out + 24, 1u << PHYSICAL_EXP); /* UNMAP's grain */
        st_be64(out + 32, SCSI_SAME_MOST);
    }
    return 60;
}

static uint32_t scsi_vpd_characteristics(uint8_t *out)
{
    st_be16(out, 1); /* does not rotate */
    return 60;
}

/* What is unmapped need not read as zeros. */
static uint32_t scsi_vpd_provisioning(const struct scsi_disk *u, uint8_t *out)
{
    out[1] = u->disk->readonly ? 0 : 0xe0; /* UNMAP, WRITE SAME(16) and (10) */
    out[2] = u->disk->readonly ? 0 : 2;    /* thin */
    return 4;
}

static uint32_t scsi_vpd(const struct scsi_disk *u, uint8_t page, uint8_t *out)
{
    uint8_t *body = out + VPD_HEAD;
    uint32_t len;

    if (u->cdrom && page > VPD_ID)
        return 0;
    switch (page) {
    case VPD_PAGES:
        len = scsi_vpd_pages(u, body);
        break;
    case VPD_SERIAL:
        len = scsi_vpd_serial(u, body);
        break;
    case VPD_ID:
        len = scsi_vpd_id(u, body);
        break;
    case VPD_LIMITS:
        len = scsi_vpd_limits(u, body);
        break;
    case VPD_CHARACTERISTICS:
        len = scsi_vpd_characteristics(body);
        break;
    case VPD_PROVISIONING:
        len = scsi_vpd_provisioning(u, body);
        break;
    default:
        return 0;
    }
    out[0] = u->cdrom ? TYPE_CDROM : 0;
    out[1] = page;
    st_be16(out + 2, (uint16_t)len);
    return VPD_HEAD + len;
}

static uint32_t scsi_inquiry(struct scsi_disk *u, const uint8_t *cdb, uint8_t *out)
{
    if (cdb[1] & 1)
        return scsi_vpd(u, cdb[2], out);
    if (cdb[2])
        return 0;
    out[1] = u->removable ? 0x80 : 0;
    out[2] = 6; /* SPC-4 */
    out[3] = 2; /* response format */
    out[4] = 31;
    out[7] = 2; /* queues commands */
    scsi_text(out + 8, 8, "RUCHE");
    scsi_text(out + 16, 16, "HARDDISK");
    scsi_text(out + 32, 4, "1.0");
    return 36;
}

/* --- capacity --- */

static uint32_t scsi_capacity10(struct scsi_disk *u, const uint8_t *cdb, uint8_t *out)
{
    (void)cdb;
    st_be32(out, (uint32_t)min_u64(scsi_disk_blocks(u) - 1, UINT32_MAX));
    st_be32(out + 4, SCSI_DISK_BLOCK);
    return 8;
}

static uint32_t scsi_capacity16(struct scsi_disk *u, const uint8_t *cdb, uint8_t *out)
{
    if ((cdb[1] & 31) != READ_CAPACITY16)
        return 0;
    st_be64(out, scsi_disk_blocks(u) - 1);
    st_be32(out + 8, SCSI_DISK_BLOCK);
    out[13] = PHYSICAL_EXP;
    out[14] = u->disk->readonly ? 0 : 0x80; /* thin */
    return 32;
}

static uint32_t scsi_format_capacities(struct scsi_disk *u, const uint8_t *cdb, uint8_t *out)
{
    (void)cdb;
    out[3] = 8;
    st_be32(out + 4, (uint32_t)min_u64(scsi_disk_blocks(u), UINT32_MAX));
    st_be32(out + 8, 2u << 24 | SCSI_DISK_BLOCK); /* formatted */
    return 12;
}

/* --- mode pages --- */

/* control: the CDB's: current values (0), those that can be changed (1), defaults (2). */
static uint32_t scsi_page_cache(const struct scsi_disk *u, unsigned control, uint8_t *out)
{
    bool on = control == 0 ? u->write_cache : true;

    out[0] = PAGE_CACHE;
    out[1] = 18;
    out[2] = on ? 4 : 0;
    return 20;
}

static uint32_t scsi_page_plain(uint8_t page, uint8_t len, uint8_t *out)
{
    out[0] = page;
    out[1] = len;
    return 2u + len;
}

/* 0: there is no such page. */
static uint32_t scsi_pages(const struct scsi_disk *u, const uint8_t *cdb, uint8_t *out)
{
    unsigned page = cdb[2] & 0x3f, control = cdb[2] >> 6;
    uint32_t len = 0;

    if (control == 3 || (cdb[3] && cdb[3] != 0xff)) /* saved values, sub-pages */
        return 0;
    if (page == PAGE_ERRORS || page == PAGE_ALL)
        len += scsi_page_plain(PAGE_ERRORS, 10, out + len);
    if (page == PAGE_CACHE || page == PAGE_ALL)
        len += scsi_page_cache(u, control, out + len);
    if (page == PAGE_CONTROL || page == PAGE_ALL)
        len += scsi_page_plain(PAGE_CONTROL, 10, out + len);
    return len;
}

static uint8_t scsi_mode_flags(const struct scsi_disk *u)
{
    return (uint8_t)(MODE_DPOFUA | (u->disk->readonly ? MODE_WP : 0));
}

static uint32_t scsi_mode_block(const struct scsi_disk *u, const uint8_t *cdb, uint8_t *out)
{
    if (cdb[1] & MODE_DBD)
        return 0;
    st_be32(out, (uint32_t)min_u64(scsi_disk_blocks(u), UINT32_MAX));
    st_be32(out + 4, SCSI_DISK_BLOCK);
    return 8;
}

static uint32_t scsi_mode6(struct scsi_disk *u, const uint8_t *cdb, uint8_t *out)
{
    uint32_t block = scsi_mode_block(u, cdb, out + 4);
    uint32_t pages = scsi_pages(u, cdb, out + 4 + block);

    if (!pages)
        return 0;
    out[0] = (uint8_t)(3 + block + pages);
    out[2] = scsi_mode_flags(u);
    out[3] = (uint8_t)block;
    return 4 + block + pages;
}

static uint32_t scsi_mode10(struct scsi_disk *u, const uint8_t *cdb, uint8_t *out)
{
    uint32_t block = scsi_mode_block(u, cdb, out + 8);
    uint32_t pages = scsi_pages(u, cdb, out + 8 + block);

    if (!pages)
        return 0;
    st_be16(out, (uint16_t)(6 + block + pages));
    out[3] = scsi_mode_flags(u);
    st_be16(out + 6, (uint16_t)block);
    return 8 + block + pages;
}

/* --- the rest --- */

static uint32_t scsi_request_sense(struct scsi_disk *u, const uint8_t *cdb, uint8_t *out)
{
    if (cdb[1] & 1) /* the descriptor format */
        return 0;
    scsi_sense_bytes(u->sense, out);
    u->sense = SENSE_NONE;
    return SCSI_SENSE_LEN;
}

/* Number 0 alone. */
static uint32_t scsi_report_luns(struct scsi_disk *u, const uint8_t *cdb, uint8_t *out)
{
    (void)u;
    if (cdb[2] > 2)
        return 0;
    st_be32(out, 8);
    return 16;
}

static const struct scsi_info_op scsi_info_ops[] = {
    { SCSI_REQUEST_SENSE, 4, 1, scsi_request_sense },
    { SCSI_INQUIRY, 3, 2, scsi_inquiry },
    { SCSI_MODE_SENSE6, 4, 1, scsi_mode6 },
    { SCSI_READ_FORMAT_CAPACITIES, 7, 2, scsi_format_capacities },
    { SCSI_READ_CAPACITY10, 0, 0, scsi_capacity10 },
    { SCSI_MODE_SENSE10, 7, 2, scsi_mode10 },
    { SCSI_SERVICE_ACTION_IN16, 10, 4, scsi_capacity16 },
    { SCSI_REPORT_LUNS, 6, 4, scsi_report_luns },
};

enum scsi_info scsi_info(struct scsi_disk *u, const uint8_t *cdb, uint8_t *out, uint32_t *len)
{
    for (unsigned i = 0; i < ARRAY_SIZE(scsi_info_ops); i++) {
        const struct scsi_info_op *op = &scsi_info_ops[i];

        if (op->op != cdb[0])
            continue;
        *len = op->build(u, cdb, out);
        if (!*len)
            return SCSI_INFO_BAD_FIELD;
        if (op->alloc_len)
            *len = (uint32_t)min_u64(*len, scsi_be(cdb + op->alloc_at, op->alloc_len));
        return SCSI_INFO_REPLY;
    }
    return SCSI_INFO_UNKNOWN;
}

bool scsi_info_for_cdrom(const uint8_t *cdb)
{
    return (cdb[0] == SCSI_INQUIRY && (cdb[1] & 1)) || cdb[0] == SCSI_REPORT_LUNS;
}
