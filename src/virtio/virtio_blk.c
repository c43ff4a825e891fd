/*
 * virtio_blk.c: see virtio_blk.h. A request's buffers, however they are cut into descriptors:
 *
 *     readable: u32 type, u32 reserved, u64 sector | data to write, or ranges
 *     writable: data read | u8 status
 *
 * All that one kick brings goes to the disk as one batch; what completes together ends in one interrupt. A
 * request that comes back undone because the VM stops (-ECANCELED, see block.h) waits in `again`, is saved with
 * the device's state, and is submitted anew when the VM goes on.
 *
 * Locking: the device lock; completions come on any thread and take it, but within blk_commit(), where we have it.
 */
#include "virtio/virtio_blk.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/iov.h"

enum {
    VBLK_QUEUE_SIZE = 512,    /* so that 1 MiB of single pages is one request */
    VBLK_MAX_QUEUES = 16,     /* more only cost the guest memory and vectors */
    VBLK_MAX_RANGE = 1 << 22, /* sectors of a discard: 2 GiB */
    VBLK_PHYSICAL_EXP = 3,    /* 4 KiB: what the host's file systems like */
    VBLK_HEADER = 16,
    VBLK_RANGE = 16,
};
enum {
    VBLK_IN = 0,
    VBLK_OUT = 1,
    VBLK_FLUSH = 4,
    VBLK_GET_ID = 8,
    VBLK_DISCARD = 11,
    VBLK_ZEROES = 13
};
enum { VBLK_S_OK = 0, VBLK_S_IOERR = 1, VBLK_S_UNSUPP = 2 };
enum { VBLK_RANGE_UNMAP = 1 };

#define VBLK_F_SEG_MAX      BIT64(2)
#define VBLK_F_RO           BIT64(5)
#define VBLK_F_BLK_SIZE     BIT64(6)
#define VBLK_F_FLUSH        BIT64(9)
#define VBLK_F_TOPOLOGY     BIT64(10)
#define VBLK_F_CONFIG_WCE   BIT64(11)
#define VBLK_F_MQ           BIT64(12)
#define VBLK_F_DISCARD      BIT64(13)
#define VBLK_F_WRITE_ZEROES BIT64(14)

enum { /* configuration space */
       VBLK_C_CAPACITY = 0,
       VBLK_C_SEG_MAX = 12,
       VBLK_C_BLK_SIZE = 20,
       VBLK_C_PHYSICAL_EXP = 24,
       VBLK_C_MIN_IO = 26,
       VBLK_C_WRITEBACK = 32,
       VBLK_C_NUM_QUEUES = 34,
       VBLK_C_DISCARD_SECTORS = 36,
       VBLK_C_DISCARD_SEGS = 40,
       VBLK_C_DISCARD_ALIGN = 44,
       VBLK_C_ZEROES_SECTORS = 48,
       VBLK_C_ZEROES_SEGS = 52,
       VBLK_C_ZEROES_UNMAP = 56,
       VBLK_C_LEN = 60,
};

struct virtio_blk {
    struct virtio v;
    struct blk *disk; /* owned */
    char serial[VIRTIO_BLK_SERIAL_MAX];
    struct loop_work interrupt;         /* for all that has completed in this turn of the loop */
    uint8_t completed[VBLK_MAX_QUEUES]; /* queues with something new in them */

    /* guest-visible state */
    bool write_back; /* the driver does not want to wait for the disk at each write */
    struct vblk_req *again;
};

/* One request, from pop to push. */
struct vblk_req {
    struct blk_req req;
    struct virtio_blk *vb;
    unsigned queue;
    struct vblk_req *next; /* in `again` */
    struct virtq_elem el;
    uint8_t *status;    /* in guest memory */
    struct iovec iov[]; /* its data */
};

static struct virtio_blk *vblk_of(struct virtio *v)
{
    return container_of(v, struct virtio_blk, v);
}

static void vblk_free(struct vblk_req *r)
{
    virtq_elem_fini(&r->el);
    free(r);
}

static void vblk_push(struct vblk_req *r, uint8_t status)
{
    *r->status = status;
    virtio_push(&r->vb->v, r->queue, &r->el, (uint32_t)min_u64(r->el.in_len, UINT32_MAX));
    vblk_free(r);
}

/* Device lock held. */
static void vblk_interrupt_now(struct virtio_blk *vb)
{
    for (unsigned i = 0; i < vb->v.nqueues; i++)
        if (vb->completed[i]) {
            vb->completed[i] = false;
            virtio_interrupt(&vb->v, i);
        }
}

static void vblk_interrupt(struct loop_work *w)
{
    struct virtio_blk *vb = container_of(w, struct virtio_blk, interrupt);

    pthread_mutex_lock(&vb->v.dev->lock);
    vblk_interrupt_now(vb);
    pthread_mutex_unlock(&vb->v.dev->lock);
}

static void vblk_log(struct vblk_req *r, int err)
{
    static const char *const verb[] = { "read", "write", "flush", "discard", "zeroing" };
    struct device *dev = r->vb->v.dev;

    log_limited(&dev->log, LOG_WARN, "virtio", "%s: %s of %llu bytes at %llu failed: %s", dev->id,
                verb[r->req.op], (unsigned long long)r->req.len, (unsigned long long)r->req.off,
                strerror(-err));
}

/* Device lock held. */
static void vblk_complete(struct vblk_req *r, int err)
{
    struct virtio_blk *vb = r->vb;
    unsigned flags = r->req.flags;

    if (err == -ECANCELED && vb->v.quiesced) {
        r->next = vb->again;
        vb->again = r;
        return;
    }
    if (err)
        vblk_log(r, err);
    vb->completed[r->queue] = true;
    vblk_push(r, err ? VBLK_S_IOERR : VBLK_S_OK);
    if (!(flags & BLK_F_HERE))
        loop_after(vm_loop(vb->v.dev->vm), &vb->interrupt);
    else if (!(flags & BLK_F_MORE))
        vblk_interrupt_now(vb);
}

/* What ends at commit ends within vblk_kick() or vblk_sync(), with the device lock. */
static void vblk_done(struct blk_req *req, int err)
{
    struct vblk_req *r = container_of(req, struct vblk_req, req);
    struct virtio *v = &r->vb->v;
    bool locked = (req->flags & BLK_F_HERE) && (req->flags & BLK_F_AT_COMMIT);

    if (!locked)
        pthread_mutex_lock(&v->dev->lock);
    vblk_complete(r, err);
    virtio_unhold(v);
    if (!locked)
        pthread_mutex_unlock(&v->dev->lock);
}

/* From here on the request completes on another thread, or when the batch is committed. */
static void vblk_submit(struct vblk_req *r, enum blk_op op, uint64_t off, uint64_t len)
{
    r->req.op = op;
    r->req.off = off;
    r->req.len = len;
    r->req.flags |= /* who starts a batch commits it */
        BLK_F_MORE | BLK_F_ANYWHERE | BLK_F_AT_COMMIT;
    r->req.done = vblk_done;
    virtio_hold(&r->vb->v);
    blk_submit(r->vb->disk, &r->req);
}

/* [*off, + sectors) in bytes; false: not on the disk. */
static bool vblk_range(const struct virtio_blk *vb, uint64_t sector, uint64_t sectors,
                       uint64_t *off)
{
    uint64_t capacity = vb->disk->size / BLK_SECTOR;

    *off = sector * BLK_SECTOR;
    return sector <= capacity && sectors <= capacity - sector;
}

/* Without FLUSH the driver relies on writes being stable when they complete, or it has said so (5.2.6.2). */
static unsigned vblk_write_flags(const struct virtio_blk *vb)
{
    bool cached =
        virtio_has(&vb->v, VBLK_F_CONFIG_WCE) ? vb->write_back : virtio_has(&vb->v, VBLK_F_FLUSH);

    return cached ? 0 : BLK_F_FUA;
}

static void vblk_read_write(struct vblk_req *r, bool write, uint64_t sector)
{
    const struct virtq_elem *el = &r->el;
    const struct iovec *iov = write ? el->iov : el->iov + el->n_out;
    uint64_t len = write ? el->out_len - VBLK_HEADER : el->in_len - 1, off;

    if (!len || len % BLK_SECTOR || !vblk_range(r->vb, sector, len / BLK_SECTOR, &off) ||
        (write && r->vb->disk->readonly)) {
        vblk_push(r, VBLK_S_IOERR);
        return;
    }
    r->req.niov =
        (int)iov_slice(r->iov, iov, write ? el->n_out : el->n_in, write ? VBLK_HEADER : 0, len);
    r->req.iov = r->iov;
    r->req.flags = write ? vblk_write_flags(r->vb) : 0;
    vblk_submit(r, write ? BLK_WRITE : BLK_READ, off, len);
}

/* One range: that is all we offered. */
static void vblk_discard(struct vblk_req *r, bool zeroes)
{
    uint64_t feature = zeroes ? VBLK_F_WRITE_ZEROES : VBLK_F_DISCARD, off;
    uint8_t range[VBLK_RANGE];
    uint32_t sectors, flags;

    if (!virtio_has(&r->vb->v, feature)) {
        vblk_push(r, VBLK_S_UNSUPP);
        return;
    }
    if (r->el.out_len != VBLK_HEADER + VBLK_RANGE || r->vb->disk->readonly ||
        iov_copy_from(r->el.iov, r->el.n_out, VBLK_HEADER, range, VBLK_RANGE) != VBLK_RANGE) {
        vblk_push(r, VBLK_S_IOERR);
        return;
    }
    sectors = ld_le32(range + 8);
    flags = ld_le32(range + 12);
    if (flags & ~(zeroes ? VBLK_RANGE_UNMAP : 0u)) {
        vblk_push(r, VBLK_S_UNSUPP);
    } else if (!sectors || sectors > VBLK_MAX_RANGE ||
               !vblk_range(r->vb, ld_le64(range), sectors, &off)) {
        vblk_push(r, VBLK_S_IOERR);
    } else {
        r->req.flags = zeroes ? vblk_write_flags(r->vb) : 0;
        r->req.flags |= flags & VBLK_RANGE_UNMAP ? BLK_F_UNMAP : 0;
        vblk_submit(r, zeroes ? BLK_WRITE_ZEROES : BLK_DISCARD, off,
                    (uint64_t)sectors * BLK_SECTOR);
    }
}

static void vblk_get_id(struct vblk_req *r)
{
    size_t len = min_u64(r->el.in_len - 1, sizeof(r->vb->serial));

    iov_copy_to(r->el.iov + r->el.n_out, r->el.n_in, 0, r->vb->serial, len);
    vblk_push(r, VBLK_S_OK);
}

static void vblk_start(struct vblk_req *r)
{
    uint8_t header[VBLK_HEADER];

    iov_copy_from(r->el.iov, r->el.n_out, 0, header, sizeof(header));
    switch (ld_le32(header)) {
    case VBLK_IN:
        vblk_read_write(r, false, ld_le64(header + 8));
        break;
    case VBLK_OUT:
        vblk_read_write(r, true, ld_le64(header + 8));
        break;
    case VBLK_FLUSH:
        vblk_submit(r, BLK_FLUSH, 0, 0);
        break;
    case VBLK_GET_ID:
        vblk_get_id(r);
        break;
    case VBLK_DISCARD:
        vblk_discard(r, false);
        break;
    case VBLK_ZEROES:
        vblk_discard(r, true);
        break;
    default:
        vblk_push(r, VBLK_S_UNSUPP);
        break;
    }
}

static bool vblk_valid(const struct virtq_elem *el)
{
    return el->out_len >= VBLK_HEADER && el->in_len;
}

/* A request of a valid element, which it owns; NULL: out of memory. */
static struct vblk_req *vblk_create(struct virtio_blk *vb, unsigned queue, struct virtq_elem *el)
{
    const struct iovec *last = &el->iov[el->n_out + el->n_in - 1];
    struct vblk_req *r = malloc(sizeof(*r) + (el->n_out + el->n_in) * sizeof(r->iov[0]));

    if (!r)
        return NULL;
    *r = (struct vblk_req){ .vb = vb, .queue = queue, .el = *el };
    r->status = (uint8_t *)last->iov_base + last->iov_len - 1;
    return r;
}

/* Owns el. False: out of memory; the buffer is back in the ring and the next kick tries again. */
static bool vblk_take(struct virtio_blk *vb, unsigned queue, struct virtq_elem *el)
{
    struct vblk_req *r;

    if (!vblk_valid(el)) {
        virtio_fail(&vb->v, "a request without a header or without a place for its status");
        virtq_elem_fini(el);
        return true;
    }
    r = vblk_create(vb, queue, el);
    if (!r) {
        virtio_unpop(&vb->v, queue, 1);
        virtq_elem_fini(el);
        return false;
    }
    vblk_start(r);
    return true;
}

static void vblk_kick(struct virtio *v, unsigned queue)
{
    struct virtq_elem el;

    while (virtio_pop(v, queue, &el) && vblk_take(vblk_of(v), queue, &el))
        ;
    blk_commit(vblk_of(v)->disk);
    virtio_interrupt(v, queue); /* what was refused has been pushed already */
}

/* --- configuration, state --- */

static void vblk_fill_config(struct virtio_blk *vb);

/* All but one byte is read-only; virtio.c has let the driver write anywhere. */
static void vblk_config_written(struct virtio *v, unsigned off, unsigned size)
{
    struct virtio_blk *vb = vblk_of(v);

    if (off <= VBLK_C_WRITEBACK && VBLK_C_WRITEBACK < off + size &&
        virtio_has(v, VBLK_F_CONFIG_WCE))
        vb->write_back = v->config[VBLK_C_WRITEBACK] & 1;
    vblk_fill_config(vb);
}

static void vblk_forget(struct virtio_blk *vb)
{
    while (vb->again) {
        struct vblk_req *r = vb->again;

        vb->again = r->next;
        vblk_free(r);
    }
}

static void vblk_reset(struct virtio *v)
{
    struct virtio_blk *vb = vblk_of(v);

    vblk_forget(vb);
    vb->write_back = !vb->disk->write_through;
    vblk_fill_config(vb);
}

/* One that was undone when the state was saved. Guest memory is loaded later: vblk_sync() fetches the rest. */
static void vblk_load_again(struct virtio_blk *vb, struct state *s, uint16_t queue, uint16_t head)
{
    struct vblk_req *r = state_error(s) ? NULL : calloc(1, sizeof(*r));

    state_require(
        s, r && queue < vb->v.nqueues && vb->v.vq[queue].ready && head < vb->v.vq[queue].size,
        "a request in flight that cannot be in its queue");
    if (!r)
        return;
    r->vb = vb;
    r->queue = queue;
    r->el.head = head;
    r->next = vb->again;
    vb->again = r;
}

static void vblk_state_again(struct virtio_blk *vb, struct state *s)
{
    struct vblk_req *r = vb->again;
    uint32_t n = 0;

    for (; r; r = r->next)
        n++;
    state_u32(s, &n);
    state_require(s, n <= vb->v.nqueues * VBLK_QUEUE_SIZE,
                  "more requests in flight than there can be");
    r = vb->again;
    for (uint32_t i = 0; i < n && !state_error(s); i++) {
        uint16_t queue = r ? (uint16_t)r->queue : 0, head = r ? r->el.head : 0;

        state_u16(s, &queue);
        state_u16(s, &head);
        if (state_loading(s))
            vblk_load_again(vb, s, queue, head);
        else if (r)
            r = r->next;
    }
}

static void vblk_state(struct virtio *v, struct state *s)
{
    struct virtio_blk *vb = vblk_of(v);
    uint64_t size = vb->disk->size;

    state_u64(s, &size);
    state_require(s, size == vb->disk->size, "the disk had another size");
    state_bool(s, &vb->write_back);
    vblk_state_again(vb, s);
    vblk_fill_config(vb);
}

/* r, or in its place the whole of what was loaded as a number; NULL: it is not there. */
static struct vblk_req *vblk_complete_again(struct vblk_req *r)
{
    struct virtio_blk *vb = r->vb;
    struct vblk_req *whole = NULL;
    struct virtq_elem el;

    if (r->el.iov)
        return r;
    if (!virtq_fetch(&vb->v.vq[r->queue], r->el.head, &el)) {
        whole = vblk_valid(&el) ? vblk_create(vb, r->queue, &el) : NULL;
        if (!whole)
            virtq_elem_fini(&el);
    }
    vblk_free(r);
    if (!whole)
        virtio_fail(&vb->v, "a request in flight has been overwritten");
    return whole;
}

/* The VM goes on: so does what its stop left undone. */
static void vblk_sync(struct virtio *v)
{
    struct virtio_blk *vb = vblk_of(v);
    struct vblk_req *r = vb->again;

    vb->again = NULL;
    while (r) {
        struct vblk_req *next = r->next;

        r->next = NULL;
        r = vblk_complete_again(r);
        if (r)
            vblk_start(r);
        r = next;
    }
    blk_commit(vb->disk);
}

static void vblk_quiesce(struct virtio *v)
{
    struct virtio_blk *vb = vblk_of(v);

    blk_drain(vb->disk);
    pthread_mutex_lock(&v->dev->lock);
    vblk_interrupt_now(vb);
    pthread_mutex_unlock(&v->dev->lock);
}

static void vblk_destroy(struct virtio *v)
{
    struct virtio_blk *vb = vblk_of(v);

    blk_close(vb->disk);
    loop_after_cancel(vm_loop(v->dev->vm), &vb->interrupt);
    vblk_forget(vb);
    free(vb);
}

static const struct virtio_class vblk_class = {
    .name = "virtio-blk",
    .version = 2,
    .id = VIRTIO_ID_BLOCK,
    .pci_class = 0x010000,
    .kick = vblk_kick,
    .config_written = vblk_config_written,
    .reset = vblk_reset,
    .state = vblk_state,
    .sync = vblk_sync,
    .quiesce = vblk_quiesce,
    .destroy = vblk_destroy,
};

static void vblk_fill_config(struct virtio_blk *vb)
{
    uint8_t *c = vb->v.config;

    memset(c, 0, VBLK_C_LEN);
    vb->v.config_len = VBLK_C_LEN;
    st_le64(c + VBLK_C_CAPACITY, vb->disk->size / BLK_SECTOR);
    st_le32(c + VBLK_C_SEG_MAX, VBLK_QUEUE_SIZE - 2); /* header and status take one each */
    st_le32(c + VBLK_C_BLK_SIZE, BLK_SECTOR);
    c[VBLK_C_PHYSICAL_EXP] = VBLK_PHYSICAL_EXP;
    st_le16(c + VBLK_C_MIN_IO, 1u << VBLK_PHYSICAL_EXP);
    c[VBLK_C_WRITEBACK] = vb->write_back;
    st_le16(c + VBLK_C_NUM_QUEUES, (uint16_t)vb->v.nqueues);
    st_le32(c + VBLK_C_DISCARD_SECTORS, VBLK_MAX_RANGE);
    st_le32(c + VBLK_C_DISCARD_SEGS, 1);
    st_le32(c + VBLK_C_DISCARD_ALIGN, 1u << VBLK_PHYSICAL_EXP);
    st_le32(c + VBLK_C_ZEROES_SECTORS, VBLK_MAX_RANGE);
    st_le32(c + VBLK_C_ZEROES_SEGS, 1);
    c[VBLK_C_ZEROES_UNMAP] = 1;
}

int virtio_blk_create(struct pci_bus *bus, unsigned devfn, const char *id, struct blk *disk,
                      const char *serial, unsigned queues, struct err *e)
{
    struct virtio_blk *vb = calloc(1, sizeof(*vb));
    int rc;

    if (!vb)
        return err_set(e, ENOMEM, "out of memory");
    queues = (unsigned)min_u64(queues, VBLK_MAX_QUEUES);
    virtio_init(&vb->v, &vblk_class, vm_mem(pci_bus_vm(bus)), queues, VBLK_QUEUE_SIZE);
    vb->disk = disk;
    vb->write_back = !disk->write_through;
    vb->interrupt.call = vblk_interrupt;
    if (serial) /* not a string: 5.2.6.1 pads with NULs. NOLINTNEXTLINE(bugprone-not-null-terminated-result) */
        memcpy(vb->serial, serial, min_u64(strlen(serial), sizeof(vb->serial)));
    vb->v.offered |=
        VBLK_F_SEG_MAX | VBLK_F_BLK_SIZE | VBLK_F_FLUSH | VBLK_F_TOPOLOGY | VBLK_F_CONFIG_WCE;
    vb->v.offered |= queues > 1 ? VBLK_F_MQ : 0;
    vb->v.offered |= disk->readonly ? VBLK_F_RO : VBLK_F_DISCARD | VBLK_F_WRITE_ZEROES;
    vblk_fill_config(vb);
    rc = virtio_pci_add(bus, &vb->v, devfn, id, e);
    if (rc)
        free(vb);
    return rc;
}
