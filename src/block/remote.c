#include "block/remote.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "block/formats.h"

const struct blk_ops *remote_find(const char *path)
{
    static const struct {
        const char *scheme;
        const struct blk_ops *ops;
    } schemes[] = {
        { "nbd://", &blk_nbd_ops },      { "nbds://", &blk_nbd_ops },
        { "nbd+unix://", &blk_nbd_ops }, { "nbds+unix://", &blk_nbd_ops },
        { "rbd:", &blk_rbd_ops },
    };

    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++)
        if (!strncmp(path, schemes[i].scheme, strlen(schemes[i].scheme)))
            return schemes[i].ops;
    return NULL;
}

void *remote_load(const char *soname, const char *package, const char *disk,
                  const struct remote_symbol *symbols, size_t n, struct err *e)
{
    void *handle = dlopen(soname, RTLD_NOW | RTLD_LOCAL);

    if (!handle) {
        err_set(e, ENOENT, "disk '%s' needs a library that is not installed (%s): apt install %s",
                disk, soname, package);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        void *symbol = dlsym(handle, symbols[i].name);

        if (!symbol) {
            err_set(e, ENOSYS, "disk '%s': the library %s has no %s: it is too old", disk, soname,
                    symbols[i].name);
            dlclose(handle);
            return NULL;
        }
        memcpy(symbols[i].where, &symbol, sizeof(symbol));
    }
    return handle;
}

/* --- completions --- */

static void remote_complete(struct remote *r)
{
    struct blk_req *req;

    pthread_mutex_lock(&r->lock);
    req = r->finished;
    r->finished = NULL;
    pthread_mutex_unlock(&r->lock);
    while (req) {
        struct blk_req *next = req->next;

        blk_done(req, (int)(intptr_t)req->priv[0]);
        req = next;
    }
}

static void remote_ready(struct loop_fd *w, uint32_t events)
{
    struct remote *r = container_of(w, struct remote, watch);
    eventfd_t count;

    (void)events;
    eventfd_read(r->event_fd, &count);
    remote_complete(r);
}

void remote_wait(struct remote *r)
{
    struct pollfd p = { .fd = r->event_fd, .events = POLLIN };

    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
    remote_ready(&r->watch, EPOLLIN);
}

void remote_done(struct remote *r, struct blk_req *req, int err)
{
    bool first;

    req->priv[0] = (void *)(intptr_t)err;
    pthread_mutex_lock(&r->lock);
    first = !r->finished;
    req->next = r->finished;
    r->finished = req;
    if (first) /* under the lock: the disk cannot be closed meanwhile */
        eventfd_write(r->event_fd, 1);
    pthread_mutex_unlock(&r->lock);
}

int remote_init(struct remote *r, struct loop *l, struct err *e)
{
    int rc = 0;

    pthread_mutex_init(&r->lock, NULL);
    r->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->event_fd < 0)
        return err_set(e, errno, "no eventfd: %s", strerror(errno));
    if (l)
        rc = loop_fd_add(l, &r->watch, r->event_fd, EPOLLIN, remote_ready);
    return rc ? err_set(e, -rc, "no event: %s", strerror(-rc)) : 0;
}

void remote_fini(struct remote *r)
{
    if (r->watch.loop)
        loop_fd_del(&r->watch);
    util_close(&r->event_fd);
    pthread_mutex_destroy(&r->lock);
}
