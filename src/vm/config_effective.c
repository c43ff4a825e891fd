/*
 * config_effective.c: what is in force where the user said nothing, in the words that options take.
 */
#include "vm/config.h"

#include <errno.h>
#include <string.h>

static bool config_default(char **word, const char *in_force)
{
    if (!*word && in_force)
        *word = strdup(in_force);
    return *word || !in_force;
}

static bool config_disk_effective(struct config_disk *d, const char *on_io_error)
{
    return config_default(&d->bus, "virtio") && config_default(&d->cache, "writeback") &&
           config_default(&d->aio, "uring") && config_default(&d->discard, "unmap") &&
           config_default(&d->detect_zeroes, "off") && config_default(&d->on_io_error, on_io_error);
}

int config_effective(struct vm_config *c, struct err *e)
{
    const char *usb = config_usb(c);
    bool user = strcmp(c->net, "user") == 0;
    bool ok = config_default(&c->on_io_error, "enospc") && config_default(&c->parallel, "none") &&
              config_default(&c->display, "none") && config_default(&c->usb, usb ? usb : "none") &&
              config_default(&c->net_model, user ? "virtio" : NULL);

    for (unsigned i = 0; ok && i < c->n_disks; i++)
        ok = config_disk_effective(&c->disk[i], c->on_io_error);
    return ok ? 0 : err_set(e, ENOMEM, "out of memory");
}
