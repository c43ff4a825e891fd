/*
 * nvme_info.c: Identify (NVMe 1.4, 5.15) and log pages (5.14).
 */
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "hw/nvme_impl.h"

enum { ID_NAMESPACE = 0, ID_CONTROLLER = 1, ID_LIST = 2, ID_DESCRIPTORS = 3, ID_LEN = 4096 };
enum { LOG_ERRORS = 1, LOG_SMART = 2, LOG_FIRMWARE = 3, LOG_MAX = 4096, LOG_ERROR_LEN = 64 };
enum { SMART_UNIT = 1000, TEMPERATURE = 310 };
enum { NGUID_LEN = 16, NID_NGUID = 2 };

/* Text padded with blanks. */
static void nvme_text(uint8_t *out, size_t len, const char *text)
{
    memset(out, ' ', len);
    memcpy(out, text, strnlen(text, len));
}

/* By the serial number, so that a disk keeps its name. */
static void nvme_nguid(const struct nvme *n, uint8_t out[NGUID_LEN])
{
    static const uint8_t vendor[8] = { 'r', 'u', 'c', 'h', 'e', '-', 'n', 's' };
    uint64_t hash = 14695981039346656037ull;

    for (const char *p = n->serial; *p; p++)
        hash = (hash ^ (uint8_t)*p) * 1099511628211ull;
    memcpy(out, vendor, sizeof(vendor));
    st_be64(out + 8, hash);
}

/* --- Identify --- */

static void nvme_id_controller(const struct nvme *n, uint8_t *p)
{
    st_le16(p, ld_le16(n->pci.cfg + PCI_VENDOR));
    st_le16(p + 2, ld_le16(n->pci.cfg + PCI_SUBSYS_VENDOR));
    nvme_text(p + 4, 20, n->serial);
    nvme_text(p + 24, 40, "RUCHE NVMe");
    nvme_text(p + 64, 8, "1.0");
    p[72] = 6; /* arbitration burst: 2^6 */
    p[77] = NVME_MDTS;
    st_le32(p + 80, 0x00010400);
    p[111] = 1; /* an I/O controller */
    p[258] = 3; /* aborts at a time, less one */
    p[259] = NVME_AERS - 1;
    p[260] = 1 << 1 | 1; /* one slot of firmware, read-only */
    p[261] = BIT(2);     /* log pages from an offset */
    p[262] = NVME_ERRORS - 1;
    st_le16(p + 266, 343); /* K: warm, */
    st_le16(p + 268, 373); /* hot */
    p[512] = 0x66;         /* 64 bytes a command, 16 a completion */
    p[513] = 0x44;
    st_le32(p + 516, 1);               /* namespaces */
    st_le16(p + 520, BIT(2) | BIT(3)); /* Dataset Management, Write Zeroes */
    p[525] = 7; /* a write cache, which is flushed for all namespaces at once, too */
    snprintf((char *)p + 768, 256, "nqn.2014-08.org.nvmexpress:ruche:%s", n->serial);
    st_le16(p + 2048, 2500); /* centiwatts */
}

static void nvme_id_namespace(const struct nvme *n, uint8_t *p)
{
    uint64_t blocks = n->disk->size / NVME_LBA;

    st_le64(p, blocks);
    st_le64(p + 8, blocks);
    st_le64(p + 16, blocks);
    p[24] = BIT(4); /* what follows says what suits it */
    p[99] = n->disk->readonly;
    st_le16(p + 64, 7); /* blocks less one: grain of writes, its alignment; */
    st_le16(p + 66, 7);
    st_le16(p + 68, 7); /* and of deallocation */
    st_le16(p + 70, 7);
    nvme_nguid(n, p + 104);
    p[128 + 2] = 9; /* format 0: 2^9 bytes */
}

static void nvme_id_descriptors(const struct nvme *n, uint8_t *p)
{
    p[0] = NID_NGUID;
    p[1] = NGUID_LEN;
    nvme_nguid(n, p + 4);
}

int nvme_identify(struct nvme_req *r)
{
    uint32_t nsid = ld_le32(r->sqe + 4);
    uint8_t page[ID_LEN] = { 0 };

    switch (r->sqe[40]) {
    case ID_NAMESPACE:
        if (nsid != 1 && nsid != UINT32_MAX)
            return NVME_BAD_NAMESPACE | NVME_DNR;
        nvme_id_namespace(r->n, page);
        break;
    case ID_CONTROLLER:
        nvme_id_controller(r->n, page);
        break;
    case ID_LIST: /* of those above nsid */
        if (nsid >= UINT32_MAX - 1)
            return NVME_BAD_NAMESPACE | NVME_DNR;
        st_le32(page, nsid == 0);
        break;
    case ID_DESCRIPTORS:
        if (nsid != 1)
            return NVME_BAD_NAMESPACE | NVME_DNR;
        nvme_id_descriptors(r->n, page);
        break;
    default:
        return NVME_BAD_FIELD | NVME_DNR;
    }
    return nvme_send(r, page, sizeof(page));
}

/* --- logs --- */

void nvme_log_error(struct nvme *n, const struct nvme_req *r, int status)
{
    memmove(&n->error[1], &n->error[0], sizeof(n->error) - sizeof(n->error[0]));
    n->error[0] = (struct nvme_error){
        .count = ++n->error_count,
        .lba = r->sq ? ld_le64(r->sqe + 40) : 0,
        .sq = r->sq,
        .cid = ld_le16(r->sqe + 2),
        .status = (uint16_t)(status << 1),
    };
}

static void nvme_log_errors(const struct nvme *n, uint8_t *p)
{
    for (unsigned i = 0; i < NVME_ERRORS && n->error[i].count; i++, p += LOG_ERROR_LEN) {
        st_le64(p, n->error[i].count);
        st_le16(p + 8, n->error[i].sq);
        st_le16(p + 10, n->error[i].cid);
        st_le16(p + 12, n->error[i].status);
        st_le16(p + 14, 0xffff); /* of no parameter in particular */
        st_le64(p + 16, n->error[i].lba);
        st_le32(p + 24, n->error[i].sq ? 1 : UINT32_MAX);
    }
}

static uint64_t nvme_units(uint64_t blocks)
{
    return (blocks + SMART_UNIT - 1) / SMART_UNIT;
}

static void nvme_log_smart(const struct nvme *n, uint8_t *p)
{
    p[0] = n->disk->readonly ? BIT(3) : 0;
    st_le16(p + 1, TEMPERATURE);
    p[3] = 100; /* per cent of spare space, and when that is too little */
    p[4] = 10;
    st_le64(p + 32, nvme_units(n->read_blocks));
    st_le64(p + 48, nvme_units(n->written_blocks));
    st_le64(p + 64, n->reads);
    st_le64(p + 80, n->writes);
    st_le64(p + 112, 1); /* power cycles */
    st_le64(p + 160, n->media_errors);
    st_le64(p + 176, n->error_count);
}

static void nvme_log_firmware(uint8_t *p)
{
    p[0] = 1; /* slot 1 is active */
    nvme_text(p + 8, 8, "1.0");
}

int nvme_log_page(struct nvme_req *r)
{
    uint32_t cdw10 = ld_le32(r->sqe + 40), cdw11 = ld_le32(r->sqe + 44);
    uint64_t len = (((uint64_t)(cdw11 & 0xffff) << 16 | cdw10 >> 16) + 1) * 4;
    uint64_t off = ld_le64(r->sqe + 48);
    uint8_t page[2 * LOG_MAX] = { 0 };

    if (len > LOG_MAX || off > LOG_MAX || off % 4)
        return NVME_BAD_FIELD | NVME_DNR;
    switch (cdw10 & 0xff) {
    case LOG_ERRORS:
        nvme_log_errors(r->n, page);
        break;
    case LOG_SMART:
        nvme_log_smart(r->n, page);
        break;
    case LOG_FIRMWARE:
        nvme_log_firmware(page);
        break;
    default:
        return NVME_BAD_LOG | NVME_DNR;
    }
    return nvme_send(r, page + off, len);
}
