/*
 * nbd_link.c: a connection to an NBD server, see nbd_priv.h.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "block/nbd_priv.h"

enum { NBD_COMMAND_MAX = 32 * MIB, NBD_GOODBYE_MS = 1000, NBD_BLOCK_MAX = 64 * KIB };

bool nbd_link_alive(const struct nbd_lib *lib, struct nbd_handle *h)
{
    return h && lib->aio_is_dead(h) == 0 && lib->aio_is_closed(h) == 0;
}

bool nbd_link_poll(const struct nbd_lib *lib, struct nbd_handle *h, int wake_fd, int timeout_ms)
{
    bool alive = nbd_link_alive(lib, h); /* else its questions would only be mistakes of ours */
    unsigned direction = alive ? lib->aio_get_direction(h) : 0;
    struct pollfd p[2] = {
        { .fd = wake_fd, .events = POLLIN },
        { .fd = alive ? lib->aio_get_fd(h) : -1,
          .events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                            (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0)) },
    };

    if (poll(p, ARRAY_SIZE(p), timeout_ms) <= 0 || !p[1].revents)
        return false;
    /* One of them: the other may not be wanted any more afterwards. A failure is seen as a dead link. */
    if (p[1].revents & (POLLIN | POLLHUP | POLLERR) && (direction & LIBNBD_AIO_DIRECTION_READ))
        lib->aio_notify_read(h);
    else if (p[1].revents & (POLLOUT | POLLHUP | POLLERR))
        lib->aio_notify_write(h);
    return true;
}

static bool nbd_link_is_canceled(const struct nbd_patience *p)
{
    struct pollfd cancel = { .fd = p->cancel_fd, .events = POLLIN };

    return poll(&cancel, 1, 0) > 0;
}

/*
 * Moves the connection on while it is being made, or (`answered`) until a command is done. -ETIMEDOUT;
 * -ECANCELED: see nbd_patience.
 */
static int nbd_link_wait(const struct nbd_lib *lib, struct nbd_handle *h,
                         const struct nbd_patience *p, const bool *answered)
{
    uint64_t end = util_monotonic_ns() + p->timeout_ms * 1000000ull;

    while (answered ? !*answered && nbd_link_alive(lib, h) : lib->aio_is_connecting(h) == 1) {
        uint64_t now = util_monotonic_ns();

        if (now >= end)
            return -ETIMEDOUT;
        if (!nbd_link_poll(lib, h, p->cancel_fd, (int)((end - now) / 1000000u + 1)) &&
            nbd_link_is_canceled(p))
            return -ECANCELED;
    }
    return 0;
}

/* What rc means of nbd_link_wait(), or of what was to be waited for (0). */
static int nbd_link_fail(const struct nbd_lib *lib, const char *uri, const struct nbd_patience *p,
                         int rc, struct err *e)
{
    const char *why = lib->get_error(), *rest = why ? strstr(why, ": ") : NULL;

    if (rc == -ECANCELED)
        return err_set(e, ECANCELED, "disk '%s': given up while its server was waited for", uri);
    if (rc == -ETIMEDOUT)
        return err_set(
            e, ETIMEDOUT,
            "disk '%s' cannot be reached: the server says nothing, for %u s now; is it an "
            "NBD server, and what does its log say?",
            uri, p->timeout_ms / 1000);
    if (rest && !strncmp(why, "nbd_", strlen("nbd_"))) /* libnbd begins with its function's name */
        why = rest + 2;
    return err_set(e, ECONNREFUSED, "disk '%s' cannot be reached: %s", uri,
                   why ? why : "the server hung up");
}

/* What one command may have: whole blocks and sectors; `most` is the server's word, if it is positive. */
static uint32_t nbd_link_max(int64_t most, uint64_t block)
{
    uint64_t unit = max_u64(block, BLK_SECTOR);

    if (most <= 0 || most > NBD_COMMAND_MAX)
        return NBD_COMMAND_MAX;
    return (uint32_t)max_u64(align_down((uint64_t)most, unit), unit);
}

static int nbd_link_ask(const struct nbd_lib *lib, struct nbd_handle *h, const char *uri,
                        struct nbd_server *s, struct err *e)
{
    int64_t size = lib->get_size(h), least = lib->get_block_size(h, LIBNBD_SIZE_MINIMUM),
            most = lib->get_block_size(h, LIBNBD_SIZE_MAXIMUM);

    if (size < 0)
        return err_set(e, EIO, "disk '%s': the server does not say its size: %s", uri,
                       lib->get_error());
    if (least <= 0) /* it does not say */
        least = 1;
    if (least > NBD_BLOCK_MAX || !is_pow2((uint64_t)least))
        return err_set(e, EINVAL,
                       "disk '%s': the server wants blocks of %lld bytes, which no NBD server may: "
                       "put nbdkit's blocksize filter in between",
                       uri, (long long)least);
    *s = (struct nbd_server){
        .size = (uint64_t)size,
        .block = (uint32_t)least,
        .max_len = nbd_link_max(most, (uint64_t)least),
        .readonly = lib->is_read_only(h) == 1,
        .flush = lib->can_flush(h) == 1,
        .fua = lib->can_fua(h) == 1,
        .trim = lib->can_trim(h) == 1,
        .zero = lib->can_zero(h) == 1,
        .status = lib->can_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1,
    };
    return 0;
}

struct nbd_handle *nbd_link_open(const struct nbd_lib *lib, const char *uri,
                                 const struct nbd_patience *p, struct nbd_server *server,
                                 struct err *e)
{
    struct nbd_handle *h = lib->create();
    int rc = 0;

    if (!h)
        return err_oom(e);
    /* Block status makes converting quick. Its lack is no failure; nor is that of our checks: we have ours. */
    lib->add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION);
    lib->set_strict_mode(h, 0);
    lib->set_uri_allow_local_file(h, true); /* the user's own words: keys of nbds:// */
    if (!lib->aio_connect_uri(h, uri))
        rc = nbd_link_wait(lib, h, p, NULL);
    if (rc || lib->aio_is_ready(h) != 1)
        rc = nbd_link_fail(lib, uri, p, rc, e);
    else
        rc = nbd_link_ask(lib, h, uri, server, e);
    if (rc) {
        lib->close(h);
        return NULL;
    }
    return h;
}

static int nbd_link_answered(void *answered, int *error)
{
    (void)error; /* is an answer too */
    *(bool *)answered = true;
    return 1;
}

int nbd_link_try(const struct nbd_lib *lib, struct nbd_handle *h, const char *uri,
                 const struct nbd_patience *p, const struct nbd_server *server, struct err *e)
{
    bool answered = false;
    nbd_completion_callback cb = { .callback = nbd_link_answered, .user_data = &answered };
    char *block = malloc(server->block);
    int rc = 0;

    if (!block || server->size < server->block)
        answered = true; /* there is nothing to ask */
    else if (lib->aio_pread(h, block, server->block, 0, cb, 0) >= 0)
        rc = nbd_link_wait(lib, h, p, &answered);
    if (!answered) {
        rc = nbd_link_fail(lib, uri, p, rc, e);
        lib->close(h); /* no sooner: the sentence may be libnbd's, and the command has our memory */
    }
    free(block);
    return answered ? 0 : rc;
}

/* Of its own, libnbd forgets commands when a connection that works is closed: it has to see the end of that first. */
void nbd_link_break(const struct nbd_lib *lib, struct nbd_handle *h)
{
    shutdown(lib->aio_get_fd(h), SHUT_RDWR);
    while (nbd_link_alive(lib, h) && nbd_link_poll(lib, h, -1, 0))
        ;
    lib->close(h);
}

void nbd_link_close(const struct nbd_lib *lib, struct nbd_handle *h)
{
    const struct nbd_patience goodbye = { NBD_GOODBYE_MS, -1 };
    bool never = false;

    if (!h)
        return;
    /* Until the server hangs up, because some of them take a connection that breaks for a fault. */
    if (nbd_link_alive(lib, h) && !lib->aio_disconnect(h, 0) &&
        nbd_link_wait(lib, h, &goodbye, &never))
        log_debug("block", "an NBD server does not hang up");
    lib->close(h);
}
