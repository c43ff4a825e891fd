/*
 * nvme.c: the controller's PCI function and registers (NVMe 1.4, 3.1): see nvme.h and nvme_impl.h. Pages of 4 KiB
 * only. Not modelled: memory buffer in the controller, subsystem reset, boot partitions, shadow doorbells.
 *
 * Locking: the device lock, for all of it; completions come on the loop thread and take it.
 */
#include "hw/nvme_impl.h"

#include <errno.h>
#include <stdio.h>

enum {
    NVME_CLASS = 0x010802,
    NVME_BAR = 0,
    NVME_BAR_LEN = 0x4000,
    NVME_MSIX_BAR = 4,
    NVME_DOORBELLS = 0x1000,
    NVME_MIN_IO_QUEUES = 2, /* OVMF's driver wants two and does not ask */
};
enum { /* registers, 32 bits each */
       REG_CAP = 0x00,
       REG_CAP_HIGH = 0x04,
       REG_VS = 0x08,
       REG_INTMS = 0x0c,
       REG_INTMC = 0x10,
       REG_CC = 0x14,
       REG_CSTS = 0x1c,
       REG_AQA = 0x24,
       REG_ASQ = 0x28,
       REG_ASQ_HIGH = 0x2c,
       REG_ACQ = 0x30,
       REG_ACQ_HIGH = 0x34,
};
enum { /* CAP, low: queues of up to NVME_QUEUE_MAX entries, in one piece; 10 s until ready */
       CAP_LOW = (NVME_QUEUE_MAX - 1) | 1 << 16 | 20 << 24,
       CAP_HIGH = 1 << 5, /* the NVM command set */
       VERSION = 0x00010400,
};
enum {
    CC_ENABLE = BIT(0),
    CC_FIXED = 0x3ff0, /* command set, page size, arbitration: there is only the first of each */
    CC_SHUTDOWN = 3 << 14,
    CC_STORED = 0x00fffff1,
    CSTS_READY = BIT(0),
    CSTS_FATAL = BIT(1),
    CSTS_SHUT_DOWN = 2 << 2,
    CSTS_SHUTDOWN = 3 << 2,
    AQA_STORED = 0x0fff0fff,
};

static struct nvme *nvme_of(struct device *d)
{
    return container_of(d, struct nvme, pci.dev);
}

void nvme_fatal(struct nvme *n, const char *why)
{
    log_limited(&n->pci.dev.log, LOG_WARN, "nvme", "%s: %s", n->pci.dev.id, why);
    n->csts |= CSTS_FATAL;
}

/* --- enabling, resetting --- */

static void nvme_stop(struct nvme *n)
{
    nvme_queues_reset(n);
    n->n_aers = 0;
    n->event = 0;
    n->csts &= (uint32_t) ~(CSTS_FATAL | CSTS_SHUTDOWN);
    n->intms = 0;
    nvme_features_reset(n);
    nvme_update_intx(n);
}

/* A controller that was disabled stays ready as long as it has the guest's memory in use. */
void nvme_settle(struct nvme *n)
{
    if (n->in_flight)
        return;
    if (!(n->cc & CC_ENABLE))
        n->csts &= (uint32_t)~CSTS_READY;
    else if (!(n->csts & (CSTS_READY | CSTS_FATAL)) && !nvme_admin_queues(n))
        nvme_fatal(n, "the admin queues cannot be where they should be");
    else if (!(n->csts & CSTS_FATAL))
        n->csts |= CSTS_READY;
}

static void nvme_write_cc(struct nvme *n, uint32_t val)
{
    uint32_t old = n->cc;

    n->cc = val & CC_STORED;
    if ((old & ~val) & CC_ENABLE) {
        nvme_stop(n);
    } else if ((val & ~old) & CC_ENABLE) {
        if (val & CC_FIXED)
            nvme_fatal(n, "enabled with settings that it does not have");
    }
    if ((old ^ val) & CC_ENABLE)
        nvme_settle(n);
    if (!(val & CC_SHUTDOWN))
        n->csts &= (uint32_t)~CSTS_SHUTDOWN;
    else if ((val & ~old) & CC_SHUTDOWN)
        n->csts |= CSTS_SHUT_DOWN;
}

/* --- registers --- */

static uint32_t nvme_read32(const struct nvme *n, uint64_t off)
{
    switch (off) {
    case REG_CAP:
        return CAP_LOW;
    case REG_CAP_HIGH:
        return CAP_HIGH;
    case REG_VS:
        return VERSION;
    case REG_INTMS:
    case REG_INTMC:
        return n->intms;
    case REG_CC:
        return n->cc;
    case REG_CSTS:
        return n->csts;
    case REG_AQA:
        return n->aqa;
    case REG_ASQ:
        return (uint32_t)n->asq;
    case REG_ASQ_HIGH:
        return (uint32_t)(n->asq >> 32);
    case REG_ACQ:
        return (uint32_t)n->acq;
    case REG_ACQ_HIGH:
        return (uint32_t)(n->acq >> 32);
    default:
        return 0;
    }
}

static void nvme_set_low(uint64_t *reg, uint32_t val)
{
    *reg = (*reg & ~(uint64_t)UINT32_MAX) | val;
}

static void nvme_set_high(uint64_t *reg, uint32_t val)
{
    *reg = (uint64_t)val << 32 | (uint32_t)*reg;
}

static void nvme_write32(struct nvme *n, uint64_t off, uint32_t val)
{
    switch (off) {
    case REG_INTMS:
        n->intms |= val;
        break;
    case REG_INTMC:
        n->intms &= ~val;
        break;
    case REG_CC:
        nvme_write_cc(n, val);
        break;
    case REG_AQA:
        n->aqa = val & AQA_STORED;
        break;
    case REG_ASQ:
        nvme_set_low(&n->asq, val);
        break;
    case REG_ASQ_HIGH:
        nvme_set_high(&n->asq, val);
        break;
    case REG_ACQ:
        nvme_set_low(&n->acq, val);
        break;
    case REG_ACQ_HIGH:
        nvme_set_high(&n->acq, val);
        break;
    default:
        break;
    }
    nvme_update_intx(n);
}

static uint64_t nvme_read(struct device *d, uint64_t off, unsigned size)
{
    (void)size;
    return nvme_read32(nvme_of(d), off);
}

static void nvme_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    struct nvme *n = nvme_of(d);

    (void)size;
    if (off < NVME_DOORBELLS)
        nvme_write32(n, off, (uint32_t)val);
    else if ((n->csts & (CSTS_READY | CSTS_FATAL)) == CSTS_READY && (n->cc & CC_ENABLE))
        nvme_doorbell(n, (off - NVME_DOORBELLS) / 4, (uint32_t)val & 0xffff);
}

static const struct io_ops nvme_io_ops = { nvme_read, nvme_write, 4, 4 };

/* --- state --- */

static void nvme_sq_state(struct nvme_sq *sq, struct state *s)
{
    state_bool(s, &sq->live);
    state_u16(s, &sq->size);
    state_u16(s, &sq->head);
    state_u16(s, &sq->tail);
    state_u16(s, &sq->cq);
    state_u64(s, &sq->base);
    state_require(s, sq->cq < NVME_QUEUES, "no such completion queue");
    state_require(s, !sq->live || (sq->size >= 2 && sq->head < sq->size && sq->tail < sq->size),
                  "impossible submission queue");
}

static void nvme_cq_state(struct nvme_cq *cq, struct state *s)
{
    state_bool(s, &cq->live);
    state_bool(s, &cq->interrupts);
    state_bool(s, &cq->phase);
    state_u16(s, &cq->size);
    state_u16(s, &cq->head);
    state_u16(s, &cq->tail);
    state_u16(s, &cq->vector);
    state_u64(s, &cq->base);
    state_require(s, !cq->live || (cq->size >= 2 && cq->head < cq->size && cq->tail < cq->size),
                  "impossible completion queue");
}

static void nvme_error_state(struct nvme_error *e, struct state *s)
{
    state_u64(s, &e->count);
    state_u64(s, &e->lba);
    state_u16(s, &e->sq);
    state_u16(s, &e->cid);
    state_u16(s, &e->status);
}

/* A submission queue is of no use without its completion queue, and nothing points to a dead one. */
static bool nvme_queues_fit(const struct nvme *n)
{
    for (unsigned i = 0; i < NVME_QUEUES; i++)
        if (n->sq[i].live && (!n->cq[n->sq[i].cq].live || !i != !n->sq[i].cq))
            return false;
    return n->n_aers <= NVME_AERS && (!n->n_aers || n->sq[0].live);
}

/* Commands that the host has not carried out: in flight again, once they begin anew. */
static void nvme_postponed_state(struct nvme *n, struct state *s)
{
    struct nvme_req *r = n->postponed;
    uint32_t count = 0;

    for (; state_loading(s) == false && r; r = r->next)
        count++;
    state_u32(s, &count);
    state_require(s, count <= NVME_REQS, "too many commands");
    r = n->postponed;
    for (uint32_t i = 0; i < count && !state_error(s); i++) {
        if (state_loading(s))
            r = nvme_take(n);
        if (!r) { /* the ones of the past are still in use: somebody did not quiesce */
            state_require(s, false, "commands are in flight");
            return;
        }
        state_u16(s, &r->sq);
        state_bytes(s, r->sqe, sizeof(r->sqe));
        if (!state_loading(s)) {
            r = r->next;
            continue;
        }
        state_require(s, r->sq < NVME_QUEUES && n->sq[r->sq].live, "no such queue");
        if (state_error(s)) {
            nvme_free(r);
            return;
        }
        n->sq[r->sq].in_flight++;
        n->cq[n->sq[r->sq].cq].reserved++;
        r->dead = false;
        nvme_postpone(r);
    }
}

static void nvme_counters_state(struct nvme *n, struct state *s)
{
    state_u64(s, &n->reads);
    state_u64(s, &n->writes);
    state_u64(s, &n->read_blocks);
    state_u64(s, &n->written_blocks);
    state_u64(s, &n->media_errors);
    state_u64(s, &n->error_count);
    for (unsigned i = 0; i < NVME_ERRORS; i++)
        nvme_error_state(&n->error[i], s);
}

static void nvme_state(struct device *d, struct state *s)
{
    struct nvme *n = nvme_of(d);
    uint64_t size = n->disk->size;

    pci_state(&n->pci, s);
    if (state_loading(s))
        nvme_queues_reset(n);
    state_u64(s, &size);
    state_require(s, size == n->disk->size, "the disk had another size");
    state_u32(s, &n->intms);
    state_u32(s, &n->cc);
    state_u32(s, &n->csts);
    state_u32(s, &n->aqa);
    state_u64(s, &n->asq);
    state_u64(s, &n->acq);
    for (unsigned i = 0; i < NVME_QUEUES; i++) {
        nvme_sq_state(&n->sq[i], s);
        nvme_cq_state(&n->cq[i], s);
    }
    for (unsigned i = 0; i < NVME_FEATURES; i++)
        state_u32(s, &n->feature[i]);
    for (unsigned i = 0; i < NVME_AERS; i++)
        state_u16(s, &n->aer[i]);
    state_u8(s, &n->n_aers);
    state_u32(s, &n->event);
    nvme_counters_state(n, s);
    state_require(s, nvme_queues_fit(n), "queues do not fit");
    nvme_postponed_state(n, s);
}

/* --- the device --- */

static void nvme_resume(struct nvme *n)
{
    struct nvme_req *r = n->postponed;

    n->postponed = NULL;
    n->postponed_tail = &n->postponed;
    while (r) {
        struct nvme_req *next = r->next;

        nvme_start(r);
        r = next;
    }
    nvme_settle(n);
    nvme_run(n);
}

static void nvme_sync(struct device *d)
{
    pci_sync(&nvme_of(d)->pci);
    nvme_resume(nvme_of(d));
    nvme_update_intx(nvme_of(d));
}

static void nvme_quiesce(struct device *d)
{
    blk_drain(nvme_of(d)->disk);
}

static void nvme_free_all(struct nvme *n)
{
    free(n->pool);
    free(n);
}

static void nvme_destroy(struct device *d)
{
    blk_close(nvme_of(d)->disk);
    nvme_free_all(nvme_of(d));
}

static const struct device_ops nvme_ops = {
    .type = "nvme",
    .version = 1,
    .state = nvme_state,
    .sync = nvme_sync,
    .quiesce = nvme_quiesce,
    .destroy = nvme_destroy,
};

static void nvme_init_pool(struct nvme *n)
{
    for (unsigned i = 0; i < NVME_REQS; i++) {
        struct nvme_req *r = &n->pool[i];

        r->n = n;
        r->sg = (struct sglist){
            .mem = vm_mem(n->pci.dev.vm), .iov = r->iov, .gpa = r->gpa, .max = NVME_SEGS
        };
    }
    nvme_queues_reset(n);
}

int nvme_create(struct pci_bus *bus, unsigned devfn, const char *id, struct blk *disk,
                const char *serial, unsigned queues, struct err *e)
{
    struct nvme *n = calloc(1, sizeof(*n));
    int rc;

    if (!n)
        return err_set(e, ENOMEM, "out of memory");
    n->pool = calloc(NVME_REQS, sizeof(*n->pool));
    if (!n->pool) {
        free(n);
        return err_set(e, ENOMEM, "out of memory");
    }
    n->disk = disk;
    n->io_queues = (unsigned)min_u64(max_u64(queues, NVME_MIN_IO_QUEUES), NVME_MAX_IO_QUEUES);
    snprintf(n->serial, sizeof(n->serial), "%s", serial ? serial : id);
    pci_init(&n->pci, &nvme_ops, pci_bus_vm(bus), id, 0x1b36, 0x0010, NVME_CLASS, 2);
    pci_add_bar(&n->pci, NVME_BAR, NVME_BAR_LEN, false, true, &nvme_io_ops);
    pci_add_msix(&n->pci, NVME_MSIX_BAR, n->io_queues + 1);
    pci_add_intx(&n->pci);
    nvme_init_pool(n);
    nvme_features_reset(n);
    rc = pci_add(bus, &n->pci, devfn, e);
    if (rc)
        nvme_free_all(n);
    return rc;
}
