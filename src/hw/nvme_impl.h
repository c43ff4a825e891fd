/*
 * nvme_impl.h: between the files of the NVMe controller.
 *
 *  nvme.c          the PCI function and its registers, state
 *  nvme_queue.c    submission and completion queues: commands in, completions and interrupts out
 *  nvme_io.c       commands of a namespace: guest memory by PRPs, requests to the block layer
 *  nvme_admin.c    commands of the admin queue: queues, features, events
 *  nvme_info.c     what the controller says about itself: Identify, log pages
 *
 * Everything here runs with the device lock held. A command has a place in its completion queue from the time
 * it is fetched, so that a completion can always be posted: a submission queue whose completion queue is full
 * waits. Nothing is in flight when state is saved; commands that the host could not carry out yet are in it.
 */
#ifndef HW_NVME_IMPL_H
#define HW_NVME_IMPL_H

#include "hw/nvme.h"
#include "hw/sglist.h"

enum {
    NVME_QUEUES = NVME_MAX_IO_QUEUES + 1, /* and the admin queue, number 0 */
    NVME_QUEUE_MAX = 1024,                /* entries */
    NVME_SQE = 64,
    NVME_CQE = 16,
    NVME_PAGE = 4096,
    NVME_MDTS = 8, /* at most 2^8 pages a transfer */
    NVME_DATA_MAX = NVME_PAGE << NVME_MDTS,
    NVME_SEGS = (1 << NVME_MDTS) + 1,
    NVME_REQS = 256, /* commands in flight */
    NVME_AERS = 4,
    NVME_ERRORS = 8,
    NVME_FEATURES = 12,
    NVME_LBA = BLK_SECTOR,
    NVME_RANGES = 256 * 16,
};
enum { /* status: type << 8 | code */
       NVME_OK = 0x000,
       NVME_BAD_OPCODE = 0x001,
       NVME_BAD_FIELD = 0x002,
       NVME_DATA_ERROR = 0x004,
       NVME_INTERNAL = 0x006,
       NVME_ABORTED = 0x007,
       NVME_BAD_NAMESPACE = 0x00b,
       NVME_BAD_PRP = 0x013,
       NVME_PROTECTED = 0x020,
       NVME_OUT_OF_RANGE = 0x080,
       NVME_NO_SPACE = 0x081,
       NVME_BAD_CQ = 0x100,
       NVME_BAD_QUEUE = 0x101,
       NVME_BAD_SIZE = 0x102,
       NVME_TOO_MANY_EVENTS = 0x105,
       NVME_BAD_VECTOR = 0x108,
       NVME_BAD_LOG = 0x109,
       NVME_BAD_DELETION = 0x10c,
       NVME_NOT_SAVEABLE = 0x10d,
       NVME_WRITE_FAULT = 0x280,
       NVME_READ_ERROR = 0x281,
       NVME_DNR = BIT(14), /* it would fail again */
};
enum { NVME_PENDING = -1 }; /* instead of a status: it goes on by itself */
enum {                      /* features */
       FEAT_TEMPERATURE = 0x04,
       FEAT_WRITE_CACHE = 0x06,
       FEAT_QUEUES = 0x07,
       FEAT_VECTOR = 0x09,
       FEAT_EVENTS = 0x0b,
};

struct nvme_sq {
    bool live;
    uint16_t size, head, tail, cq;
    uint64_t base;

    uint16_t in_flight; /* commands that are not completed; not saved but for the postponed ones */
    struct nvme_req *deletion; /* the command that waits for them */
};
struct nvme_cq {
    bool live, interrupts, phase;
    uint16_t size, head, tail, vector;
    uint64_t base;

    uint16_t reserved; /* places for commands in flight; as in_flight */
};

struct nvme;
struct nvme_req {
    struct nvme *n;
    struct nvme_req *next; /* free, or postponed */
    bool in_flight, dead;  /* dead: nobody waits for it any more */
    uint16_t sq;
    uint8_t sqe[NVME_SQE];

    struct blk_req req;
    struct sglist sg;
    struct iovec iov[NVME_SEGS];
    uint64_t gpa[NVME_SEGS];
    uint8_t range[NVME_RANGES]; /* of Dataset Management */
    uint32_t range_at, range_len;
};

struct nvme_error { /* of the log, newest first */
    uint64_t count, lba;
    uint16_t sq, cid, status;
};

struct nvme {
    /* wiring and configuration */
    struct pci_dev pci;
    struct blk *disk; /* owned */
    char serial[NVME_SERIAL_MAX + 1];
    unsigned io_queues;
    struct nvme_req *pool; /* NVME_REQS of them */

    /* guest-visible state */
    uint32_t intms, cc, csts, aqa;
    uint64_t asq, acq;
    struct nvme_sq sq[NVME_QUEUES];
    struct nvme_cq cq[NVME_QUEUES];
    uint32_t feature[NVME_FEATURES];
    uint16_t aer[NVME_AERS]; /* command ids that wait for events */
    uint8_t n_aers;
    uint32_t event; /* that nobody has been told of yet; 0: none */
    uint64_t reads, writes, read_blocks, written_blocks, media_errors;
    uint64_t error_count;
    struct nvme_error error[NVME_ERRORS];

    struct nvme_req *free;
    struct nvme_req *postponed, **postponed_tail; /* begin anew when the VM goes on */
    unsigned in_flight;                           /* at the block layer */
    bool uncommitted;                             /* requests that the host is to be told of */
};

/* --- nvme.c --- */
void nvme_fatal(struct nvme *n, const char *why);
void nvme_settle(struct nvme *n); /* nothing may be in flight any more: a reset may be complete */

/* --- nvme_queue.c --- */
void nvme_queues_reset(struct nvme *n); /* none is live */
bool nvme_admin_queues(struct nvme *n); /* as AQA, ASQ and ACQ say; false: impossible */
void nvme_doorbell(struct nvme *n, uint64_t index, uint32_t val);
void nvme_start(struct nvme_req *r); /* a command that is fetched */
void nvme_run(struct nvme *n);       /* fetches and starts what there is */
/* A command is over: status, or NVME_PENDING: not yet. r is not the caller's any more. */
void nvme_complete(struct nvme_req *r, int status, uint32_t result);
bool nvme_cq_has_room(const struct nvme_cq *cq);
void nvme_post_event(struct nvme *n, uint16_t cid, uint32_t result);
void nvme_free(struct nvme_req *r);
struct nvme_req *nvme_take(struct nvme *n); /* NULL: all are in use */
void nvme_postpone(struct nvme_req *r);
void nvme_update_intx(struct nvme *n);

/* --- nvme_io.c --- */
int nvme_io(struct nvme_req *r);
/* The data of r, len bytes, is in these pages of guest memory. NVME_OK or why not. */
int nvme_map(struct nvme_req *r, uint64_t len, bool to_memory);
/* Sends a buffer there. */
int nvme_send(struct nvme_req *r, const void *data, uint64_t len);
int nvme_flush(struct nvme_req *r);

/* --- nvme_admin.c --- */
int nvme_admin(struct nvme_req *r, uint32_t *result);
void nvme_event(struct nvme *n, uint32_t event); /* tells the guest, or keeps it until it asks */
void nvme_features_reset(struct nvme *n);

/* --- nvme_info.c --- */
int nvme_identify(struct nvme_req *r);
int nvme_log_page(struct nvme_req *r);
void nvme_log_error(struct nvme *n, const struct nvme_req *r, int status);

#endif
