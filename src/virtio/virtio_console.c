/*
 * virtio_console.c: virtio console (virtio 1.2, 5.3) with one port over a chardev. Not modelled:
 * multiple ports, change of size.
 *
 * Locking: the device lock guards everything; chardev callbacks take it on the loop thread. Nothing is
 * ever held between calls: what the chardev does not take waits in the ring.
 */
#include "virtio/virtio_console.h"

#include <errno.h>

#include "base/endian.h"

enum { VIRTIO_CONSOLE_RX, VIRTIO_CONSOLE_TX, VIRTIO_CONSOLE_QUEUES };
enum {
    VIRTIO_CONSOLE_QUEUE_SIZE = 128,
    /* configuration space */
    VIRTIO_CONSOLE_CFG_COLS = 0,
    VIRTIO_CONSOLE_CFG_ROWS = 2,
    VIRTIO_CONSOLE_CFG_MAX_PORTS = 4,
    VIRTIO_CONSOLE_CFG_EMERG_WR = 8,
    VIRTIO_CONSOLE_CFG_LEN = 12,
};
#define VIRTIO_CONSOLE_F_SIZE        BIT64(0)
#define VIRTIO_CONSOLE_F_EMERG_WRITE BIT64(2)

struct virtio_console {
    struct virtio v;
    struct chardev *chr;
    uint16_t cols, rows; /* of the terminal; 0: none */
    /* guest-visible state */
    uint64_t tx_done; /* bytes of the next output buffer that are out already */
};

static struct virtio_console *virtio_console_of(struct virtio *v)
{
    return container_of(v, struct virtio_console, v);
}

/* Writes out what the chardev takes of a buffer, past tx_done. true: all of it is out. */
static bool virtio_console_write(struct virtio_console *c, const struct virtq_elem *el)
{
    uint64_t skip = c->tx_done;

    for (unsigned i = 0; i < el->n_out; i++) {
        const uint8_t *p = el->iov[i].iov_base;
        size_t len = el->iov[i].iov_len, n;

        if (skip >= len) {
            skip -= len;
            continue;
        }
        n = chardev_write(c->chr, p + skip, len - skip);
        c->tx_done += n;
        if (n < len - skip)
            return false;
        skip = 0;
    }
    c->tx_done = 0;
    return true;
}

static void virtio_console_output(struct virtio_console *c)
{
    struct virtq_elem el;
    bool out = true;

    while (out && virtio_pop(&c->v, VIRTIO_CONSOLE_TX, &el)) {
        out = virtio_console_write(c, &el);
        if (out)
            virtio_push(&c->v, VIRTIO_CONSOLE_TX, &el, 0);
        else
            virtio_unpop(&c->v, VIRTIO_CONSOLE_TX, 1); /* until virtio_console_writable() */
        virtq_elem_fini(&el);
    }
    virtio_interrupt(&c->v, VIRTIO_CONSOLE_TX);
}

static uint32_t virtio_console_read(struct virtio_console *c, const struct virtq_elem *el)
{
    size_t total = 0;

    for (unsigned i = el->n_out; i < el->n_out + el->n_in; i++) {
        size_t n = chardev_read(c->chr, el->iov[i].iov_base, el->iov[i].iov_len);

        total += n;
        if (n < el->iov[i].iov_len)
            break;
    }
    return (uint32_t)total;
}

static void virtio_console_input(struct virtio_console *c)
{
    struct virtq_elem el;
    uint32_t n = 1;

    while (n && virtio_pop(&c->v, VIRTIO_CONSOLE_RX, &el)) {
        n = virtio_console_read(c, &el);
        if (n || !el.in_len)
            virtio_push(&c->v, VIRTIO_CONSOLE_RX, &el, n);
        else
            virtio_unpop(&c->v, VIRTIO_CONSOLE_RX, 1);
        virtq_elem_fini(&el);
    }
    virtio_interrupt(&c->v, VIRTIO_CONSOLE_RX);
}

static void virtio_console_kick(struct virtio *v, unsigned queue)
{
    if (queue == VIRTIO_CONSOLE_RX)
        virtio_console_input(virtio_console_of(v));
    else
        virtio_console_output(virtio_console_of(v));
}

static void virtio_console_on_loop(struct virtio_console *c, unsigned queue)
{
    pthread_mutex_lock(&c->v.dev->lock);
    virtio_console_kick(&c->v, queue);
    pthread_mutex_unlock(&c->v.dev->lock);
}

static void virtio_console_readable(void *opaque)
{
    virtio_console_on_loop(opaque, VIRTIO_CONSOLE_RX);
}

static void virtio_console_writable(void *opaque)
{
    virtio_console_on_loop(opaque, VIRTIO_CONSOLE_TX);
}

static void virtio_console_fill_config(struct virtio_console *c)
{
    st_le16(c->v.config + VIRTIO_CONSOLE_CFG_COLS, c->cols);
    st_le16(c->v.config + VIRTIO_CONSOLE_CFG_ROWS, c->rows);
    st_le32(c->v.config + VIRTIO_CONSOLE_CFG_MAX_PORTS, 1);
    st_le32(c->v.config + VIRTIO_CONSOLE_CFG_EMERG_WR, 0);
}

/* Emergency write: a kernel without queues yet says its last words here, a byte at a time. */
static void virtio_console_config_written(struct virtio *v, unsigned off, unsigned size)
{
    struct virtio_console *c = virtio_console_of(v);

    (void)size;
    if (off == VIRTIO_CONSOLE_CFG_EMERG_WR)
        (void)chardev_write(c->chr, v->config + off, 1);
    virtio_console_fill_config(c); /* the rest is read-only */
}

static void virtio_console_reset(struct virtio *v)
{
    virtio_console_of(v)->tx_done = 0;
}

static void virtio_console_state(struct virtio *v, struct state *s)
{
    state_u64(s, &virtio_console_of(v)->tx_done);
}

static void virtio_console_destroy(struct virtio *v)
{
    struct virtio_console *c = virtio_console_of(v);

    chardev_attach(c->chr, NULL, NULL);
    free(c);
}

static const struct virtio_class virtio_console_class = {
    .name = "virtio-console",
    .version = 1,
    .id = VIRTIO_ID_CONSOLE,
    .pci_class = 0x078000,
    .kick = virtio_console_kick,
    .config_written = virtio_console_config_written,
    .reset = virtio_console_reset,
    .state = virtio_console_state,
    .destroy = virtio_console_destroy,
};
static const struct chardev_ops virtio_console_chardev = {
    .readable = virtio_console_readable,
    .writable = virtio_console_writable,
};

int virtio_console_create(struct vm *vm, struct pci_bus *bus, unsigned devfn, const char *id,
                          struct chardev *chr, uint16_t cols, uint16_t rows, struct err *e)
{
    struct virtio_console *c = calloc(1, sizeof(*c));
    int rc;

    if (!c) {
        err_oom(e);
        return -ENOMEM;
    }
    c->chr = chr;
    c->cols = cols;
    c->rows = rows;
    virtio_init(&c->v, &virtio_console_class, vm_mem(vm), VIRTIO_CONSOLE_QUEUES,
                VIRTIO_CONSOLE_QUEUE_SIZE);
    c->v.offered |= VIRTIO_CONSOLE_F_EMERG_WRITE | (cols && rows ? VIRTIO_CONSOLE_F_SIZE : 0);
    c->v.config_len = VIRTIO_CONSOLE_CFG_LEN;
    virtio_console_fill_config(c);
    rc = virtio_pci_add(bus, &c->v, devfn, id, e);
    if (rc) {
        free(c);
        return rc;
    }
    chardev_attach(chr, &virtio_console_chardev, c);
    return 0;
}
