/*
 * virtio_scsi.c: see virtio_scsi.h. A command's buffers, however they are cut into descriptors:
 *
 *     readable: lun[8], u64 id, u8 attribute, priority, crn, cdb[32] | data to write
 *     writable: u32 sense length, residual, u16 qualifier, u8 status, response, sense[96] | data read
 *
 * What the commands mean is hw/scsi_disk.h's. A task management function waits for the commands that it
 * names: the host cannot take them back. Not modelled: events (nothing comes or goes), both directions at once,
 * other lengths of CDBs and sense than the usual.
 *
 * Locking: the device lock; completions come on the loop thread and take it.
 */
#include "virtio/virtio_scsi.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/iov.h"
#include "hw/scsi_disk.h"

enum {
    VSCSI_QUEUE_SIZE = 256,
    VSCSI_MAX_QUEUES = 16, /* of requests */
    VSCSI_CONTROL = 0,
    VSCSI_EVENT = 1,
    VSCSI_REQUEST = 2,
    VSCSI_SENSE = 96,
    VSCSI_CDB = 32,
    VSCSI_HEAD = 19 + VSCSI_CDB,
    VSCSI_REPLY = 12 + VSCSI_SENSE,
    VSCSI_TMF_LEN = 24,
};
enum { VSCSI_MAX_SECTORS = 0xffff, VSCSI_DEPTH = 128 };
enum { /* configuration space */
       VSCSI_C_QUEUES = 0,
       VSCSI_C_SEG_MAX = 4,
       VSCSI_C_MAX_SECTORS = 8,
       VSCSI_C_CMD_PER_LUN = 12,
       VSCSI_C_EVENT_SIZE = 16,
       VSCSI_C_SENSE_SIZE = 20,
       VSCSI_C_CDB_SIZE = 24,
       VSCSI_C_MAX_CHANNEL = 28,
       VSCSI_C_MAX_TARGET = 30,
       VSCSI_C_MAX_LUN = 32,
       VSCSI_C_LEN = 36,
};
enum { /* responses */
       VSCSI_S_OK = 0,
       VSCSI_S_OVERRUN = 1,
       VSCSI_S_BAD_TARGET = 3,
       VSCSI_S_FAILURE = 9,
       VSCSI_S_SUCCEEDED = 10,
       VSCSI_S_REJECTED = 11,
       VSCSI_S_BAD_LUN = 12,
};
enum { VSCSI_T_TMF = 0, VSCSI_T_QUERY = 1, VSCSI_T_SUBSCRIBE = 2 };
enum { /* task management functions */
       TMF_ABORT_TASK = 0,
       TMF_ABORT_TASK_SET = 1,
       TMF_CLEAR_TASK_SET = 3,
       TMF_NEXUS_RESET = 4,
       TMF_LUN_RESET = 5,
       TMF_QUERY_TASK = 6,
       TMF_QUERY_TASK_SET = 7,
};

/* One command, from pop to push. */
struct vscsi_req {
    struct scsi_command c;
    struct virtio_scsi *vs;
    struct vscsi_req *next; /* in vs->running */
    uint64_t id, seq;
    unsigned queue;
    struct virtq_elem el;
    struct iovec iov[]; /* its data */
};

/* A task management function that waits for commands. */
struct vscsi_tmf {
    struct vscsi_tmf *next; /* in vs->waiting */
    struct virtq_elem el;
    struct scsi_disk *unit;
    uint32_t what;
    uint64_t id, seq; /* commands from seq on came later */
};

struct virtio_scsi {
    struct virtio v;
    unsigned n;
    struct scsi_disk unit[VIRTIO_SCSI_TARGETS]; /* their disks are owned */

    struct vscsi_req *running; /* in flight */
    struct vscsi_tmf *waiting;
    uint64_t seq;
};

static struct virtio_scsi *vscsi_of(struct virtio *v)
{
    return container_of(v, struct virtio_scsi, v);
}

/* NULL: nobody is there. */
static struct scsi_disk *vscsi_unit(struct virtio_scsi *vs, const uint8_t lun[8])
{
    if (lun[0] != 1 || lun[1] >= vs->n || (lun[2] & 0x3f) || lun[3])
        return NULL;
    return &vs->unit[lun[1]];
}

/* --- task management --- */

static bool vscsi_names(const struct vscsi_tmf *t, const struct vscsi_req *r)
{
    bool one = t->what == TMF_ABORT_TASK || t->what == TMF_QUERY_TASK;

    return r->c.unit == t->unit && r->seq < t->seq && (!one || r->id == t->id);
}

static bool vscsi_finds(const struct virtio_scsi *vs, const struct vscsi_tmf *t)
{
    for (const struct vscsi_req *r = vs->running; r; r = r->next)
        if (vscsi_names(t, r))
            return true;
    return false;
}

static void vscsi_answer(struct virtio_scsi *vs, struct virtq_elem *el, uint8_t response)
{
    iov_copy_to(el->iov + el->n_out, el->n_in, 0, &response, 1);
    virtio_push(&vs->v, VSCSI_CONTROL, el, 1);
    virtq_elem_fini(el);
}

static void vscsi_tmf_end(struct virtio_scsi *vs, struct vscsi_tmf *t)
{
    if (t->what == TMF_LUN_RESET || t->what == TMF_NEXUS_RESET)
        scsi_disk_reset(t->unit);
    vscsi_answer(vs, &t->el, VSCSI_S_OK);
    free(t);
}

/* A command has ended: maybe that is what some of them have waited for. */
static void vscsi_tmf_look(struct virtio_scsi *vs)
{
    struct vscsi_tmf **link = &vs->waiting;

    while (*link) {
        struct vscsi_tmf *t = *link;

        if (vscsi_finds(vs, t)) {
            link = &t->next;
            continue;
        }
        *link = t->next;
        vscsi_tmf_end(vs, t);
        virtio_interrupt(&vs->v, VSCSI_CONTROL);
        virtio_unhold(&vs->v);
    }
}

static void vscsi_tmf_wait(struct virtio_scsi *vs, const struct vscsi_tmf *t, struct virtq_elem *el)
{
    struct vscsi_tmf *w = malloc(sizeof(*w));

    if (!w) {
        vscsi_answer(vs, el, VSCSI_S_REJECTED);
        return;
    }
    *w = *t;
    w->el = *el;
    w->next = vs->waiting;
    vs->waiting = w;
    virtio_hold(&vs->v);
}

/* Owns el. */
static void vscsi_tmf(struct virtio_scsi *vs, const uint8_t *head, struct virtq_elem *el)
{
    struct vscsi_tmf t = {
        .unit = vscsi_unit(vs, head + 8),
        .what = ld_le32(head + 4),
        .id = ld_le64(head + 16),
        .seq = vs->seq,
    };

    if (!t.unit) {
        vscsi_answer(vs, el, VSCSI_S_BAD_LUN);
        return;
    }
    switch (t.what) {
    case TMF_QUERY_TASK:
    case TMF_QUERY_TASK_SET:
        vscsi_answer(vs, el, vscsi_finds(vs, &t) ? VSCSI_S_SUCCEEDED : VSCSI_S_OK);
        break;
    case TMF_LUN_RESET:
    case TMF_NEXUS_RESET:
    case TMF_ABORT_TASK:
    case TMF_ABORT_TASK_SET:
    case TMF_CLEAR_TASK_SET:
        if (vscsi_finds(vs, &t)) {
            vscsi_tmf_wait(vs, &t, el);
            break;
        }
        if (t.what == TMF_LUN_RESET || t.what == TMF_NEXUS_RESET)
            scsi_disk_reset(t.unit);
        vscsi_answer(vs, el, VSCSI_S_OK);
        break;
    default:
        vscsi_answer(vs, el, VSCSI_S_REJECTED);
        break;
    }
}

/* There are no events to be told of. */
static void vscsi_no_events(struct virtio_scsi *vs, struct virtq_elem *el)
{
    static const uint8_t reply[5] = { 0, 0, 0, 0, VSCSI_S_OK };

    iov_copy_to(el->iov + el->n_out, el->n_in, 0, reply, sizeof(reply));
    virtio_push(&vs->v, VSCSI_CONTROL, el, sizeof(reply));
    virtq_elem_fini(el);
}

static void vscsi_control(struct virtio_scsi *vs)
{
    struct virtq_elem el;

    while (virtio_pop(&vs->v, VSCSI_CONTROL, &el)) {
        uint8_t head[VSCSI_TMF_LEN] = { 0 };
        size_t n = iov_copy_from(el.iov, el.n_out, 0, head, sizeof(head));
        uint32_t type = ld_le32(head);

        if (n < 4 || !el.in_len) {
            virtio_fail(&vs->v,
                        "a control request without a type or without a place for its reply");
            virtq_elem_fini(&el);
        } else if (type == VSCSI_T_TMF && n == sizeof(head)) {
            vscsi_tmf(vs, head, &el);
        } else if (type == VSCSI_T_QUERY || type == VSCSI_T_SUBSCRIBE) {
            vscsi_no_events(vs, &el);
        } else {
            vscsi_answer(vs, &el, VSCSI_S_REJECTED);
        }
    }
    virtio_interrupt(&vs->v, VSCSI_CONTROL);
}

/* --- commands --- */

static void vscsi_push(struct vscsi_req *r, uint8_t response)
{
    const struct scsi_command *c = &r->c;
    uint8_t reply[VSCSI_REPLY] = { 0 };

    if (c->sense) {
        st_le32(reply, SCSI_SENSE_LEN);
        scsi_sense_bytes(c->sense, reply + 12);
    }
    st_le32(reply + 4, (uint32_t)min_u64(c->len - c->moved, UINT32_MAX));
    reply[10] = c->status;
    reply[11] = response == VSCSI_S_OK && c->wanted > c->len ? VSCSI_S_OVERRUN : response;
    iov_copy_to(r->el.iov + r->el.n_out, r->el.n_in, 0, reply, sizeof(reply));
    virtio_push(&r->vs->v, r->queue, &r->el, (uint32_t)min_u64(r->el.in_len, UINT32_MAX));
    virtq_elem_fini(&r->el);
    free(r);
}

static void vscsi_unlink(struct vscsi_req *r)
{
    struct vscsi_req **link = &r->vs->running;

    while (*link != r)
        link = &(*link)->next;
    *link = r->next;
}

static void vscsi_done(struct scsi_command *c)
{
    struct vscsi_req *r = container_of(c, struct vscsi_req, c);
    struct virtio_scsi *vs = r->vs;
    struct virtio *v = &vs->v;
    unsigned queue = r->queue;

    pthread_mutex_lock(&v->dev->lock);
    if (c->status == SCSI_CHECK_CONDITION)
        log_limited(&v->dev->log, LOG_WARN, "virtio",
                    "%s: target %u: command %#x failed: sense %06x", v->dev->id,
                    (unsigned)(c->unit - vs->unit), c->cdb[0], c->sense);
    vscsi_unlink(r);
    vscsi_push(r, VSCSI_S_OK);
    virtio_interrupt(v, queue);
    vscsi_tmf_look(vs);
    virtio_unhold(v);
    pthread_mutex_unlock(&v->dev->lock);
}

/* The data is what follows the header, or what follows the place for the reply. */
static bool vscsi_data(struct vscsi_req *r)
{
    const struct virtq_elem *el = &r->el;
    uint64_t out = el->out_len - VSCSI_HEAD, in = el->in_len - VSCSI_REPLY;
    struct scsi_command *c = &r->c;

    if (out && in)
        return false;
    c->to_disk = out;
    c->len = out ? out : in;
    c->iov = r->iov;
    if (out)
        c->niov = (int)iov_slice(r->iov, el->iov, el->n_out, VSCSI_HEAD, out);
    else
        c->niov = (int)iov_slice(r->iov, el->iov + el->n_out, el->n_in, VSCSI_REPLY, in);
    return true;
}

static void vscsi_start(struct vscsi_req *r)
{
    struct virtio_scsi *vs = r->vs;
    uint8_t head[VSCSI_HEAD];

    iov_copy_from(r->el.iov, r->el.n_out, 0, head, sizeof(head));
    r->id = ld_le64(head + 8);
    memcpy(r->c.cdb, head + 19, sizeof(r->c.cdb));
    r->c.unit = vscsi_unit(vs, head);
    r->c.done = vscsi_done;
    if (!r->c.unit) {
        vscsi_push(r, VSCSI_S_BAD_TARGET);
        return;
    }
    if (!vscsi_data(r)) {
        vscsi_push(r, VSCSI_S_FAILURE);
        return;
    }
    r->seq = vs->seq++;
    r->next = vs->running; /* before it starts: it may end on the loop thread at once */
    vs->running = r;
    virtio_hold(&vs->v);
    if (scsi_disk_start(&r->c))
        return;
    vscsi_unlink(r);
    vscsi_push(r, VSCSI_S_OK);
    virtio_unhold(&vs->v);
}

/* Owns el. False: out of memory; the buffer is back in the ring and the next kick tries again. */
static bool vscsi_take(struct virtio_scsi *vs, unsigned queue, struct virtq_elem *el)
{
    struct vscsi_req *r;

    if (el->out_len < VSCSI_HEAD || el->in_len < VSCSI_REPLY) {
        virtio_fail(&vs->v, "a request without a header or without a place for its reply");
        virtq_elem_fini(el);
        return true;
    }
    r = calloc(1, sizeof(*r) + (el->n_out + el->n_in) * sizeof(r->iov[0]));
    if (!r) {
        virtio_unpop(&vs->v, queue, 1);
        virtq_elem_fini(el);
        return false;
    }
    r->vs = vs;
    r->queue = queue;
    r->el = *el;
    vscsi_start(r);
    return true;
}

static void vscsi_kick(struct virtio *v, unsigned queue)
{
    struct virtq_elem el;

    if (queue == VSCSI_CONTROL)
        vscsi_control(vscsi_of(v));
    if (queue < VSCSI_REQUEST) /* buffers for events stay where they are */
        return;
    while (virtio_pop(v, queue, &el) && vscsi_take(vscsi_of(v), queue, &el))
        ;
    virtio_interrupt(v, queue);
}

/* --- the device --- */

static void vscsi_reset(struct virtio *v)
{
    for (unsigned i = 0; i < vscsi_of(v)->n; i++)
        scsi_disk_power_on(&vscsi_of(v)->unit[i]);
}

static void vscsi_state(struct virtio *v, struct state *s)
{
    struct virtio_scsi *vs = vscsi_of(v);
    uint32_t n = vs->n;

    state_u32(s, &n);
    state_require(s, n == vs->n, "there were other disks");
    for (unsigned i = 0; i < vs->n; i++)
        scsi_disk_state(&vs->unit[i], s);
}

static void vscsi_quiesce(struct virtio *v)
{
    for (unsigned i = 0; i < vscsi_of(v)->n; i++)
        blk_drain(vscsi_of(v)->unit[i].disk);
}

static void vscsi_destroy(struct virtio *v)
{
    for (unsigned i = 0; i < vscsi_of(v)->n; i++)
        blk_close(vscsi_of(v)->unit[i].disk);
    free(vscsi_of(v));
}

static const struct virtio_class vscsi_class = {
    .name = "virtio-scsi",
    .version = 1,
    .id = VIRTIO_ID_SCSI,
    .pci_class = 0x010000,
    .kick = vscsi_kick,
    .reset = vscsi_reset,
    .state = vscsi_state,
    .quiesce = vscsi_quiesce,
    .destroy = vscsi_destroy,
};

static void vscsi_fill_config(struct virtio_scsi *vs, unsigned queues)
{
    uint8_t *c = vs->v.config;

    vs->v.config_len = VSCSI_C_LEN;
    st_le32(c + VSCSI_C_QUEUES, queues);
    st_le32(c + VSCSI_C_SEG_MAX, VSCSI_QUEUE_SIZE - 2); /* header and reply take one each */
    st_le32(c + VSCSI_C_MAX_SECTORS, VSCSI_MAX_SECTORS);
    st_le32(c + VSCSI_C_CMD_PER_LUN, VSCSI_DEPTH);
    st_le32(c + VSCSI_C_EVENT_SIZE, 16);
    st_le32(c + VSCSI_C_SENSE_SIZE, VSCSI_SENSE);
    st_le32(c + VSCSI_C_CDB_SIZE, VSCSI_CDB);
    st_le16(c + VSCSI_C_MAX_CHANNEL, 0);
    st_le16(c + VSCSI_C_MAX_TARGET, (uint16_t)(vs->n - 1));
    st_le32(c + VSCSI_C_MAX_LUN, 0);
}

int virtio_scsi_create(struct pci_bus *bus, unsigned devfn, const char *id,
                       const struct virtio_scsi_media *media, unsigned n, unsigned queues,
                       struct err *e)
{
    struct virtio_scsi *vs = calloc(1, sizeof(*vs));
    int rc;

    BUG_ON(!n || n > VIRTIO_SCSI_TARGETS);
    if (!vs)
        return err_set(e, ENOMEM, "out of memory");
    queues = (unsigned)min_u64(queues, VSCSI_MAX_QUEUES);
    virtio_init(&vs->v, &vscsi_class, vm_mem(pci_bus_vm(bus)), VSCSI_REQUEST + queues,
                VSCSI_QUEUE_SIZE);
    vs->n = n;
    for (unsigned i = 0; i < n; i++)
        scsi_disk_init(&vs->unit[i], media[i].disk, media[i].cdrom, media[i].serial);
    vscsi_fill_config(vs, queues);
    rc = virtio_pci_add(bus, &vs->v, devfn, id, e);
    if (rc)
        free(vs);
    return rc;
}
