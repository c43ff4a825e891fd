/*
 * nvme_queue.c: submission and completion queues (NVMe 1.4, 4.1 and 4.6): rings in guest memory, whose other
 * ends are in doorbell registers. An entry is copied before it is used.
 */
#include "hw/nvme_impl.h"

#include <string.h>

#include "base/endian.h"

enum {
    EVENT_BAD_DOORBELL = 0x010000,
    EVENT_BAD_VALUE = 0x010100
}; /* of errors, with their log page */

static struct physmap *nvme_mem(struct nvme *n)
{
    return vm_mem(n->pci.dev.vm);
}

/* --- requests --- */

struct nvme_req *nvme_take(struct nvme *n)
{
    struct nvme_req *r = n->free;

    if (r)
        n->free = r->next;
    return r;
}

void nvme_free(struct nvme_req *r)
{
    r->next = r->n->free;
    r->n->free = r;
}

void nvme_postpone(struct nvme_req *r)
{
    struct nvme *n = r->n;

    r->next = NULL;
    *n->postponed_tail = r;
    n->postponed_tail = &r->next;
}

void nvme_queues_reset(struct nvme *n)
{
    memset(n->sq, 0, sizeof(n->sq));
    memset(n->cq, 0, sizeof(n->cq));
    n->postponed = n->free = NULL;
    n->postponed_tail = &n->postponed;
    for (unsigned i = NVME_REQS; i-- > 0;) {
        n->pool[i].dead = true;
        if (!n->pool[i].in_flight)
            nvme_free(&n->pool[i]);
    }
}

bool nvme_admin_queues(struct nvme *n)
{
    uint16_t sq = (uint16_t)((n->aqa & 0xfff) + 1), cq = (uint16_t)((n->aqa >> 16 & 0xfff) + 1);

    if (sq < 2 || cq < 2 || n->asq % NVME_PAGE || n->acq % NVME_PAGE)
        return false;
    n->sq[0] = (struct nvme_sq){ .live = true, .size = sq, .base = n->asq };
    n->cq[0] = (struct nvme_cq){
        .live = true, .interrupts = true, .phase = true, .size = cq, .base = n->acq
    };
    return true;
}

/* --- completions --- */

static uint16_t nvme_cq_used(const struct nvme_cq *cq)
{
    return (uint16_t)((cq->tail + cq->size - cq->head) % cq->size);
}

bool nvme_cq_has_room(const struct nvme_cq *cq)
{
    return nvme_cq_used(cq) + cq->reserved < cq->size - 1;
}

/* Without MSI-X all queues share the pin. */
void nvme_update_intx(struct nvme *n)
{
    bool level = false;

    for (unsigned i = 0; i < NVME_QUEUES && !level; i++)
        level = n->cq[i].live && n->cq[i].interrupts && n->cq[i].head != n->cq[i].tail;
    pci_set_intx(&n->pci, level && !(n->intms & 1) && !pci_msix_enabled(&n->pci));
}

/* The phase in the last word says that the entry is there: it is written last. */
static void nvme_post(struct nvme *n, struct nvme_cq *cq, const uint8_t *entry)
{
    uint8_t *p = guest_ptr(nvme_mem(n), cq->base + (uint64_t)cq->tail * NVME_CQE, NVME_CQE, true);
    uint32_t last = ld_le32(entry + 12);

    if (!p) {
        nvme_fatal(n, "a completion queue is not in memory");
        return;
    }
    memcpy(p, entry, 12);
    __atomic_store_n((uint32_t *)(void *)(p + 12), last, __ATOMIC_RELEASE);
    cq->tail = (uint16_t)((cq->tail + 1) % cq->size);
    cq->phase ^= !cq->tail;
    if (cq->interrupts)
        pci_msix_fire(&n->pci, cq->vector);
    nvme_update_intx(n);
}

static void nvme_post_to(struct nvme *n, unsigned sq, uint16_t cid, int status, uint32_t result)
{
    struct nvme_cq *cq = &n->cq[n->sq[sq].cq];
    uint8_t entry[NVME_CQE] = { 0 };

    st_le32(entry, result);
    st_le16(entry + 8, n->sq[sq].head);
    st_le16(entry + 10, (uint16_t)sq);
    st_le16(entry + 12, cid);
    st_le16(entry + 14, (uint16_t)(status << 1 | cq->phase));
    nvme_post(n, cq, entry);
}

void nvme_post_event(struct nvme *n, uint16_t cid, uint32_t result)
{
    nvme_post_to(n, 0, cid, NVME_OK, result);
}

/* The queue's last command is over: so is the one that waits to delete it. */
static void nvme_sq_idle(struct nvme_sq *sq)
{
    struct nvme_req *deletion = sq->deletion;

    if (sq->in_flight || !deletion)
        return;
    *sq = (struct nvme_sq){ 0 };
    nvme_complete(deletion, NVME_OK, 0);
}

void nvme_complete(struct nvme_req *r, int status, uint32_t result)
{
    struct nvme *n = r->n;
    struct nvme_sq *sq = &n->sq[r->sq];

    if (status == NVME_PENDING)
        return;
    if (status)
        nvme_log_error(n, r, status);
    sq->in_flight--;
    n->cq[sq->cq].reserved--;
    nvme_post_to(n, r->sq, ld_le16(r->sqe + 2), status, result);
    nvme_free(r);
    nvme_sq_idle(sq);
}

/* --- submissions --- */

void nvme_start(struct nvme_req *r)
{
    uint32_t result = 0;
    int status = r->sq ? nvme_io(r) : nvme_admin(r, &result);

    nvme_complete(r, status, result);
}

static bool nvme_fetch(struct nvme *n, unsigned i)
{
    struct nvme_sq *sq = &n->sq[i];
    struct nvme_req *r;

    if (!sq->live || sq->deletion || sq->head == sq->tail || !nvme_cq_has_room(&n->cq[sq->cq]))
        return false;
    r = nvme_take(n);
    if (!r)
        return false;
    if (!guest_read(nvme_mem(n), sq->base + (uint64_t)sq->head * NVME_SQE, r->sqe, NVME_SQE)) {
        nvme_free(r);
        nvme_fatal(n, "a submission queue is not in memory");
        return false;
    }
    r->dead = false;
    r->sq = (uint16_t)i;
    sq->head = (uint16_t)((sq->head + 1) % sq->size);
    sq->in_flight++;
    n->cq[sq->cq].reserved++;
    nvme_start(r);
    return true;
}

/*
 * In turn, as round-robin arbitration wants it. Bounded: only doorbells move tails. What was submitted since the
 * last time, here or by a completion, goes to the host as one batch.
 */
void nvme_run(struct nvme *n)
{
    bool any = true;

    while (any && !(n->csts & 2)) { /* not once it has failed */
        any = false;
        for (unsigned i = 0; i < NVME_QUEUES; i++)
            any |= nvme_fetch(n, i);
    }
    if (n->uncommitted)
        blk_commit(n->disk);
    n->uncommitted = false;
}

void nvme_doorbell(struct nvme *n, uint64_t index, uint32_t val)
{
    uint64_t i = index / 2;
    bool head = index % 2;

    if (i >= NVME_QUEUES || !(head ? n->cq[i].live : n->sq[i].live)) {
        nvme_event(n, EVENT_BAD_DOORBELL);
        return;
    }
    if (val >= (head ? n->cq[i].size : n->sq[i].size)) {
        nvme_event(n, EVENT_BAD_VALUE);
        return;
    }
    if (!head) {
        n->sq[i].tail = (uint16_t)val;
    } else if ((val + n->cq[i].size - n->cq[i].head) % n->cq[i].size <= nvme_cq_used(&n->cq[i])) {
        n->cq[i].head = (uint16_t)val;
        nvme_update_intx(n);
        if (n->event)
            nvme_event(n, n->event);
    } else { /* beyond what was posted */
        nvme_event(n, EVENT_BAD_VALUE);
        return;
    }
    nvme_run(n);
}
