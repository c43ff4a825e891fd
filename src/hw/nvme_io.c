/*
 * nvme_io.c: commands of the namespace (NVMe 1.4, 6): reads and writes between the disk and guest memory without
 * a copy, flush, zeroes, deallocation. Not modelled: metadata, SGLs, fused commands, Compare.
 */
#include "hw/nvme_impl.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/iov.h"

enum { IO_FLUSH = 0x00, IO_WRITE = 0x01, IO_READ = 0x02, IO_ZEROES = 0x08, IO_DSM = 0x09 };
enum { IO_FUA = BIT(30), IO_DEALLOCATE = BIT(25), DSM_DEALLOCATE = BIT(2), RANGE_LEN = 16 };
enum { PRPS_A_PAGE = NVME_PAGE / 8 };

/* --- guest memory (4.3) --- */

static int nvme_put(struct nvme_req *r, uint64_t gpa, uint64_t len)
{
    return sglist_add(&r->sg, gpa, len) == SGLIST_OK ? NVME_OK : NVME_DATA_ERROR;
}

/* A list of pages; its last entry in a page is another list, if there is more. */
static int nvme_map_list(struct nvme_req *r, uint64_t list, uint64_t left)
{
    uint8_t entry[NVME_PAGE];
    int status = NVME_OK;

    while (left && !status) {
        uint64_t n = PRPS_A_PAGE - list % NVME_PAGE / 8;
        uint64_t pages = (left + NVME_PAGE - 1) / NVME_PAGE;
        bool more = pages > n;

        n = more ? n : pages;
        if (list % 8)
            return NVME_BAD_PRP;
        if (!guest_read(r->sg.mem, list, entry, n * 8))
            return NVME_DATA_ERROR;
        for (uint64_t i = 0; i < n - more && !status; i++) {
            uint64_t gpa = ld_le64(entry + 8 * i), part = min_u64(left, NVME_PAGE);

            status = gpa % NVME_PAGE ? NVME_BAD_PRP : nvme_put(r, gpa, part);
            left -= part;
        }
        list = more ? ld_le64(entry + 8 * (n - 1)) : 0;
        if (more && n == 1 && list % NVME_PAGE) /* a list of nothing but the next one */
            return NVME_BAD_PRP;
    }
    return status;
}

int nvme_map(struct nvme_req *r, uint64_t len, bool to_memory)
{
    uint64_t prp1 = ld_le64(r->sqe + 24), prp2 = ld_le64(r->sqe + 32);
    uint64_t first = min_u64(len, NVME_PAGE - prp1 % NVME_PAGE);
    int status;

    sglist_reset(&r->sg);
    r->sg.to_memory = to_memory;
    if (prp1 % 4)
        return NVME_BAD_PRP;
    status = nvme_put(r, prp1, first);
    if (status || first == len)
        return status;
    if (len - first > NVME_PAGE)
        return nvme_map_list(r, prp2, len - first);
    return prp2 % NVME_PAGE ? NVME_BAD_PRP : nvme_put(r, prp2, len - first);
}

int nvme_send(struct nvme_req *r, const void *data, uint64_t len)
{
    int status = nvme_map(r, len, true);

    if (!status)
        iov_copy_to(r->sg.iov, r->sg.n, 0, data, len);
    return status;
}

/* --- requests --- */

static int nvme_host_error(const struct nvme_req *r, int err)
{
    if (r->req.op == BLK_READ)
        return NVME_READ_ERROR;
    if (err == -ENOSPC || err == -EDQUOT)
        return NVME_NO_SPACE;
    return err == -EROFS ? NVME_PROTECTED | NVME_DNR : NVME_WRITE_FAULT;
}

static void nvme_count(struct nvme *n, const struct blk_req *r)
{
    n->reads += r->op == BLK_READ;
    n->writes += r->op == BLK_WRITE;
    n->read_blocks += r->op == BLK_READ ? r->len / NVME_LBA : 0;
    n->written_blocks += r->op == BLK_WRITE ? r->len / NVME_LBA : 0;
}

static int nvme_next_range(struct nvme_req *r);

static void nvme_landed(struct nvme_req *r, int err)
{
    struct nvme *n = r->n;

    if (r->req.op == BLK_READ)
        sglist_written(&r->sg);
    r->in_flight = false;
    n->in_flight--;
    if (r->dead) {
        nvme_free(r);
    } else if (err == -ECANCELED) { /* the guest will have what it deletes */
        if (n->sq[r->sq].deletion)
            nvme_complete(r, NVME_ABORTED, 0);
        else
            nvme_postpone(r);
    } else if (err) {
        log_limited(&n->pci.dev.log, LOG_WARN, "nvme", "%s: %s of %llu bytes at %llu failed: %s",
                    n->pci.dev.id, r->req.op == BLK_READ ? "read" : "write",
                    (unsigned long long)r->req.len, (unsigned long long)r->req.off, strerror(-err));
        n->media_errors++;
        nvme_complete(r, nvme_host_error(r, err), 0);
    } else {
        nvme_count(n, &r->req);
        nvme_complete(r, r->req.op == BLK_DISCARD ? nvme_next_range(r) : NVME_OK, 0);
    }
}

static void nvme_done(struct blk_req *req, int err)
{
    struct nvme_req *r = container_of(req, struct nvme_req, req);
    struct nvme *n = r->n;

    pthread_mutex_lock(&n->pci.dev.lock);
    nvme_landed(r, err);
    nvme_settle(n);
    nvme_run(n);
    pthread_mutex_unlock(&n->pci.dev.lock);
}

static int nvme_submit(struct nvme_req *r, enum blk_op op, unsigned flags, uint64_t off,
                       uint64_t len)
{
    r->in_flight = true;
    r->n->in_flight++;
    r->n->uncommitted = true;
    r->req = (struct blk_req){
        .op = op,
        .flags = flags | BLK_F_MORE,
        .off = off,
        .len = len,
        .iov = r->iov,
        .niov = op == BLK_READ || op == BLK_WRITE ? (int)r->sg.n : 0,
        .done = nvme_done,
    };
    blk_submit(r->n->disk, &r->req);
    return NVME_PENDING;
}

int nvme_flush(struct nvme_req *r)
{
    return nvme_submit(r, BLK_FLUSH, 0, 0, 0);
}

/* --- commands --- */

static bool nvme_in_range(const struct nvme *n, uint64_t lba, uint64_t count)
{
    uint64_t blocks = n->disk->size / NVME_LBA;

    return lba <= blocks && count <= blocks - lba;
}

/* Without a write cache what is written is on the disk. */
static unsigned nvme_write_flags(const struct nvme_req *r, uint32_t cdw12)
{
    bool cache = r->n->feature[FEAT_WRITE_CACHE] & 1;

    return !cache || (cdw12 & IO_FUA) ? BLK_F_FUA : 0;
}

static int nvme_read_write(struct nvme_req *r, bool write)
{
    uint64_t lba = ld_le64(r->sqe + 40);
    uint32_t cdw12 = ld_le32(r->sqe + 48), count = (cdw12 & 0xffff) + 1;
    uint64_t len = (uint64_t)count * NVME_LBA;
    int status;

    if (len > NVME_DATA_MAX)
        return NVME_BAD_FIELD | NVME_DNR;
    if (!nvme_in_range(r->n, lba, count))
        return NVME_OUT_OF_RANGE | NVME_DNR;
    if (write && r->n->disk->readonly)
        return NVME_PROTECTED | NVME_DNR;
    status = nvme_map(r, len, !write);
    if (status)
        return status | NVME_DNR;
    return nvme_submit(r, write ? BLK_WRITE : BLK_READ, write ? nvme_write_flags(r, cdw12) : 0,
                       lba * NVME_LBA, len);
}

static int nvme_zeroes(struct nvme_req *r)
{
    uint64_t lba = ld_le64(r->sqe + 40);
    uint32_t cdw12 = ld_le32(r->sqe + 48), count = (cdw12 & 0xffff) + 1;
    unsigned flags = nvme_write_flags(r, cdw12) | (cdw12 & IO_DEALLOCATE ? BLK_F_UNMAP : 0);

    if (!nvme_in_range(r->n, lba, count))
        return NVME_OUT_OF_RANGE | NVME_DNR;
    if (r->n->disk->readonly)
        return NVME_PROTECTED | NVME_DNR;
    return nvme_submit(r, BLK_WRITE_ZEROES, flags, lba * NVME_LBA, (uint64_t)count * NVME_LBA);
}

/* One range after the other: context attributes, length, first block. */
static int nvme_next_range(struct nvme_req *r)
{
    while (r->range_at < r->range_len) {
        const uint8_t *p = r->range + r->range_at;
        uint64_t count = ld_le32(p + 4), lba = ld_le64(p + 8);

        r->range_at += RANGE_LEN;
        if (!nvme_in_range(r->n, lba, count))
            return NVME_OUT_OF_RANGE | NVME_DNR;
        if (count)
            return nvme_submit(r, BLK_DISCARD, 0, lba * NVME_LBA, count * NVME_LBA);
    }
    return NVME_OK;
}

/* Everything but deallocation is advice. */
static int nvme_dsm(struct nvme_req *r)
{
    uint32_t len = ((ld_le32(r->sqe + 40) & 0xff) + 1) * RANGE_LEN;
    int status;

    if (!(ld_le32(r->sqe + 44) & DSM_DEALLOCATE))
        return NVME_OK;
    if (r->n->disk->readonly)
        return NVME_PROTECTED | NVME_DNR;
    status = nvme_map(r, len, false);
    if (status)
        return status | NVME_DNR;
    iov_copy_from(r->sg.iov, r->sg.n, 0, r->range, len);
    r->range_at = 0;
    r->range_len = len;
    return nvme_next_range(r);
}

int nvme_io(struct nvme_req *r)
{
    uint8_t op = r->sqe[0];
    uint32_t nsid = ld_le32(r->sqe + 4);

    if (r->sqe[1]) /* fused, or SGLs */
        return NVME_BAD_FIELD | NVME_DNR;
    if (nsid != 1 && !(op == IO_FLUSH && nsid == UINT32_MAX))
        return NVME_BAD_NAMESPACE | NVME_DNR;
    switch (op) {
    case IO_FLUSH:
        return nvme_flush(r);
    case IO_WRITE:
        return nvme_read_write(r, true);
    case IO_READ:
        return nvme_read_write(r, false);
    case IO_ZEROES:
        return nvme_zeroes(r);
    case IO_DSM:
        return nvme_dsm(r);
    default:
        return NVME_BAD_OPCODE | NVME_DNR;
    }
}
