/*
 * nbd_link.c: a connection to an NBD server, see nbd_priv.h.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "block/nbd_priv.h"

enum { NBD_COMMAND_MAX = 32 * MIB };

bool nbd_link_alive(const struct nbd_lib *lib, struct nbd_handle *h)
{
    return h && lib->aio_is_dead(h) == 0 && lib->aio_is_closed(h) == 0;
}

void nbd_link_poll(const struct nbd_lib *lib, struct nbd_handle *h, int wake_fd, int timeout_ms)
{
    unsigned direction = h ? lib->aio_get_direction(h) : 0;
    struct pollfd p[2] = {
        { .fd = wake_fd, .events = POLLIN },
        { .fd = h ? lib->aio_get_fd(h) : -1,
          .events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                            (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0)) },
    };

    if (poll(p, ARRAY_SIZE(p), timeout_ms) <= 0 || !h)
        return;
    /* One of them: the other may not be wanted any more afterwards. A failure is seen as a dead link. */
    if (p[1].revents & (POLLIN | POLLHUP | POLLERR) && (direction & LIBNBD_AIO_DIRECTION_READ))
        lib->aio_notify_read(h);
    else if (p[1].revents & (POLLOUT | POLLHUP | POLLERR))
        lib->aio_notify_write(h);
}

static struct nbd_handle *nbd_link_fail(const struct nbd_lib *lib, struct nbd_handle *h,
                                        const char *uri, const char *why, struct err *e)
{
    const char *rest = strstr(why, ": ");

    if (!strncmp(why, "nbd_", strlen("nbd_")) && rest) /* libnbd begins with its function's name */
        why = rest + 2;
    err_set(e, ECONNREFUSED, "disk '%s' cannot be reached: %s", uri, why);
    lib->close(h);
    return NULL;
}

static int nbd_link_wait(const struct nbd_lib *lib, struct nbd_handle *h, int timeout_ms)
{
    uint64_t end = util_monotonic_ns() + (uint64_t)timeout_ms * 1000000u;

    while (lib->aio_is_connecting(h) == 1) {
        uint64_t now = util_monotonic_ns();

        if (now >= end)
            return -ETIMEDOUT;
        nbd_link_poll(lib, h, -1, (int)((end - now) / 1000000u + 1));
    }
    return lib->aio_is_ready(h) == 1 ? 0 : -ECONNREFUSED;
}

static int nbd_link_ask(const struct nbd_lib *lib, struct nbd_handle *h, const char *uri,
                        struct nbd_server *s, struct err *e)
{
    int64_t size = lib->get_size(h), least = lib->get_block_size(h, LIBNBD_SIZE_MINIMUM),
            most = lib->get_block_size(h, LIBNBD_SIZE_MAXIMUM);

    if (size < 0)
        return err_set(e, EIO, "disk '%s': the server does not say its size: %s", uri,
                       lib->get_error());
    if (least > BLK_SECTOR)
        return err_set(
            e, ENOTSUP,
            "disk '%s': the server only takes blocks of %lld bytes, and disks have 512: put "
            "nbdkit's blocksize filter or qemu-nbd in between",
            uri, (long long)least);
    *s = (struct nbd_server){
        .size = (uint64_t)size,
        .max_len = most > 0 && most < NBD_COMMAND_MAX
                       ? (uint32_t)align_down((uint64_t)most, BLK_SECTOR)
                       : NBD_COMMAND_MAX,
        .readonly = lib->is_read_only(h) == 1,
        .flush = lib->can_flush(h) == 1,
        .fua = lib->can_fua(h) == 1,
        .trim = lib->can_trim(h) == 1,
        .zero = lib->can_zero(h) == 1,
        .status = lib->can_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1,
    };
    return 0;
}

struct nbd_handle *nbd_link_open(const struct nbd_lib *lib, const char *uri, int timeout_ms,
                                 struct nbd_server *server, struct err *e)
{
    struct nbd_handle *h = lib->create();
    int rc;

    if (!h)
        return err_oom(e);
    /* Block status makes converting quick. Its lack is no failure; nor is that of our checks: we have ours. */
    lib->add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION);
    lib->set_strict_mode(h, 0);
    lib->set_uri_allow_local_file(h, true); /* the user's own words: keys of nbds:// */
    if (lib->aio_connect_uri(h, uri) < 0)
        return nbd_link_fail(lib, h, uri, lib->get_error(), e);
    rc = nbd_link_wait(lib, h, timeout_ms);
    if (rc)
        return nbd_link_fail(lib, h, uri,
                             rc == -ETIMEDOUT   ? "no answer"
                             : lib->get_error() ? lib->get_error()
                                                : "the server hung up",
                             e);
    if (nbd_link_ask(lib, h, uri, server, e)) {
        lib->close(h);
        return NULL;
    }
    return h;
}

void nbd_link_close(const struct nbd_lib *lib, struct nbd_handle *h)
{
    if (!h)
        return;
    if (nbd_link_alive(lib, h))
        lib->shutdown(h, 0);
    lib->close(h);
}
