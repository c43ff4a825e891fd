/*
 * nvme_admin.c: commands of the admin queue (NVMe 1.4, 5): queues, features, events; Abort finds nothing that
 * could still be aborted. Not modelled: firmware updates, namespaces' management, self-tests, directives.
 */
#include <string.h>

#include "base/endian.h"
#include "hw/nvme_impl.h"

enum {
    ADMIN_DELETE_SQ = 0x00,
    ADMIN_CREATE_SQ = 0x01,
    ADMIN_LOG_PAGE = 0x02,
    ADMIN_DELETE_CQ = 0x04,
    ADMIN_CREATE_CQ = 0x05,
    ADMIN_IDENTIFY = 0x06,
    ADMIN_ABORT = 0x08,
    ADMIN_SET_FEATURES = 0x09,
    ADMIN_GET_FEATURES = 0x0a,
    ADMIN_EVENT = 0x0c,
};
enum { QUEUE_CONTIGUOUS = BIT(0), CQ_INTERRUPTS = BIT(1), NOT_ABORTED = 1 };
enum { FEAT_FIRST = 0x01, TEMPERATURE_LIMIT = 0x157, /* K */ TEMPERATURE_UNDER = BIT(20) };
#define SET_SAVE BIT(31)

static uint32_t nvme_cdw(const struct nvme_req *r, unsigned n)
{
    return ld_le32(r->sqe + 4 * (size_t)n);
}

/* --- queues --- */

/* The checks that both kinds share: number, size, place. */
static int nvme_check_queue(const struct nvme_req *r, bool taken)
{
    uint32_t id = nvme_cdw(r, 10) & 0xffff, size = (nvme_cdw(r, 10) >> 16) + 1;

    if (!id || id > r->n->io_queues || taken)
        return NVME_BAD_QUEUE | NVME_DNR;
    if (size < 2 || size > NVME_QUEUE_MAX)
        return NVME_BAD_SIZE | NVME_DNR;
    if (!(nvme_cdw(r, 11) & QUEUE_CONTIGUOUS) || ld_le64(r->sqe + 24) % NVME_PAGE)
        return NVME_BAD_FIELD | NVME_DNR;
    return NVME_OK;
}

static int nvme_create_cq(struct nvme_req *r)
{
    struct nvme *n = r->n;
    uint32_t id = nvme_cdw(r, 10) & 0xffff, cdw11 = nvme_cdw(r, 11);
    int status = nvme_check_queue(r, id < NVME_QUEUES && n->cq[id].live);

    if (status)
        return status;
    if (cdw11 >> 16 >= n->pci.msix.n)
        return NVME_BAD_VECTOR | NVME_DNR;
    n->cq[id] = (struct nvme_cq){
        .live = true,
        .interrupts = cdw11 & CQ_INTERRUPTS,
        .phase = true,
        .size = (uint16_t)((nvme_cdw(r, 10) >> 16) + 1),
        .vector = (uint16_t)(cdw11 >> 16),
        .base = ld_le64(r->sqe + 24),
    };
    return NVME_OK;
}

static int nvme_create_sq(struct nvme_req *r)
{
    struct nvme *n = r->n;
    uint32_t id = nvme_cdw(r, 10) & 0xffff, cq = nvme_cdw(r, 11) >> 16;
    int status = nvme_check_queue(r, id < NVME_QUEUES && n->sq[id].live);

    if (status)
        return status;
    if (!cq || cq > n->io_queues || !n->cq[cq].live)
        return NVME_BAD_CQ | NVME_DNR;
    n->sq[id] = (struct nvme_sq){
        .live = true,
        .size = (uint16_t)((nvme_cdw(r, 10) >> 16) + 1),
        .cq = (uint16_t)cq,
        .base = ld_le64(r->sqe + 24),
    };
    return NVME_OK;
}

/* Commands in flight have to land first: their memory is the guest's again afterwards. */
static int nvme_delete_sq(struct nvme_req *r)
{
    uint32_t id = nvme_cdw(r, 10) & 0xffff;
    struct nvme_sq *sq = id < NVME_QUEUES ? &r->n->sq[id] : NULL;

    if (!id || !sq || !sq->live || sq->deletion)
        return NVME_BAD_QUEUE | NVME_DNR;
    if (sq->in_flight) {
        sq->deletion = r;
        return NVME_PENDING;
    }
    *sq = (struct nvme_sq){ 0 };
    return NVME_OK;
}

static int nvme_delete_cq(struct nvme_req *r)
{
    struct nvme *n = r->n;
    uint32_t id = nvme_cdw(r, 10) & 0xffff;

    if (!id || id >= NVME_QUEUES || !n->cq[id].live)
        return NVME_BAD_QUEUE | NVME_DNR;
    for (unsigned i = 1; i < NVME_QUEUES; i++)
        if (n->sq[i].live && n->sq[i].cq == id)
            return NVME_BAD_DELETION | NVME_DNR;
    n->cq[id] = (struct nvme_cq){ 0 };
    nvme_update_intx(n);
    return NVME_OK;
}

/* --- features (5.21) --- */

void nvme_features_reset(struct nvme *n)
{
    memset(n->feature, 0, sizeof(n->feature));
    n->feature[FEAT_TEMPERATURE] = TEMPERATURE_LIMIT;
    n->feature[FEAT_WRITE_CACHE] = 1;
}

static uint32_t nvme_get_feature(const struct nvme *n, uint32_t id, uint32_t cdw11)
{
    if (id == FEAT_QUEUES)
        return (n->io_queues - 1) << 16 | (n->io_queues - 1);
    if (id == FEAT_VECTOR)
        return cdw11 & 0xffff;
    if (id == FEAT_TEMPERATURE && (cdw11 & TEMPERATURE_UNDER))
        return 0;
    return n->feature[id];
}

static bool nvme_has_feature(uint32_t id)
{
    return id >= FEAT_FIRST && id < NVME_FEATURES && id != 0x03; /* no LBA range types */
}

static int nvme_get_features(struct nvme_req *r, uint32_t *result)
{
    uint32_t id = nvme_cdw(r, 10) & 0xff;

    if (!nvme_has_feature(id))
        return NVME_BAD_FIELD | NVME_DNR;
    *result = nvme_get_feature(r->n, id, nvme_cdw(r, 11));
    return NVME_OK;
}

static int nvme_set_features(struct nvme_req *r, uint32_t *result)
{
    struct nvme *n = r->n;
    uint32_t id = nvme_cdw(r, 10) & 0xff, val = nvme_cdw(r, 11);

    if (nvme_cdw(r, 10) & SET_SAVE)
        return NVME_NOT_SAVEABLE | NVME_DNR;
    if (!nvme_has_feature(id))
        return NVME_BAD_FIELD | NVME_DNR;
    if (id == FEAT_QUEUES) { /* the guest may ask for any number; it is told what there is */
        if ((val & 0xffff) == 0xffff || val >> 16 == 0xffff)
            return NVME_BAD_FIELD | NVME_DNR;
        *result = nvme_get_feature(n, id, val);
        return NVME_OK;
    }
    if (id == FEAT_TEMPERATURE && (val & TEMPERATURE_UNDER))
        return NVME_OK;
    if (id != FEAT_WRITE_CACHE) {
        n->feature[id] = val;
        return NVME_OK;
    }
    n->feature[id] = val & 1;
    return val & 1 ? NVME_OK : nvme_flush(r); /* what is in it has to be written */
}

/* --- events (5.2) --- */

void nvme_event(struct nvme *n, uint32_t event)
{
    if (!n->n_aers || !nvme_cq_has_room(&n->cq[0])) {
        n->event = event;
        return;
    }
    n->event = 0;
    nvme_post_event(n, n->aer[--n->n_aers], event);
}

/* It keeps its place in the completion queue until it is answered. */
static int nvme_await_event(struct nvme_req *r)
{
    struct nvme *n = r->n;

    if (n->n_aers == NVME_AERS)
        return NVME_TOO_MANY_EVENTS | NVME_DNR;
    n->aer[n->n_aers++] = ld_le16(r->sqe + 2);
    n->sq[0].in_flight--;
    n->cq[0].reserved--;
    nvme_free(r);
    if (n->event)
        nvme_event(n, n->event);
    return NVME_PENDING;
}

/* --- the table --- */

int nvme_admin(struct nvme_req *r, uint32_t *result)
{
    if (r->sqe[1]) /* fused, or SGLs */
        return NVME_BAD_FIELD | NVME_DNR;
    switch (r->sqe[0]) {
    case ADMIN_DELETE_SQ:
        return nvme_delete_sq(r);
    case ADMIN_CREATE_SQ:
        return nvme_create_sq(r);
    case ADMIN_LOG_PAGE:
        return nvme_log_page(r);
    case ADMIN_DELETE_CQ:
        return nvme_delete_cq(r);
    case ADMIN_CREATE_CQ:
        return nvme_create_cq(r);
    case ADMIN_IDENTIFY:
        return nvme_identify(r);
    case ADMIN_ABORT:
        *result = NOT_ABORTED;
        return NVME_OK;
    case ADMIN_SET_FEATURES:
        return nvme_set_features(r, result);
    case ADMIN_GET_FEATURES:
        return nvme_get_features(r, result);
    case ADMIN_EVENT:
        return nvme_await_event(r);
    default:
        return NVME_BAD_OPCODE | NVME_DNR;
    }
}
