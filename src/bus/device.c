#include "bus/device.h"

#include <errno.h>
#include <string.h>

static void device_section(struct device *d, struct state *s)
{
    state_begin(s, d->ops->type, d->id, d->ops->version);
    d->ops->state(d, s);
    state_end(s);
}

/* Power-on state is what the device holds when it is added: the default reset loads it again. */
static int device_record_power_on(struct device *d, struct err *e)
{
    struct state s;
    int rc;

    state_init_save(&s);
    device_section(d, &s);
    rc = state_error(&s);
    if (rc) {
        err_set(e, -rc, "%s: %s", d->id, state_what(&s));
        state_fini(&s);
        return rc;
    }
    d->power_on = s.buf;
    d->power_on_len = s.len;
    s.buf = NULL;
    state_fini(&s);
    return 0;
}

int device_add(struct vm *vm, struct device *d, struct err *e)
{
    struct device **p = vm_devices(vm);
    int rc;

    for (; *p; p = &(*p)->next)
        if (!strcmp((*p)->id, d->id))
            return err_set(e, EEXIST, "there is a device '%s' already", d->id);
    rc = device_record_power_on(d, e);
    if (rc)
        return rc;
    pthread_mutex_init(&d->lock, NULL);
    d->next = NULL;
    *p = d;
    return 0;
}

void device_reset(struct device *d)
{
    pthread_mutex_lock(&d->lock);
    if (d->ops->reset) {
        d->ops->reset(d);
    } else {
        struct state s;

        state_init_load(&s, d->power_on, d->power_on_len);
        device_section(d, &s);
        BUG_ON(state_error(&s));
    }
    pthread_mutex_unlock(&d->lock);
}

void device_state(struct device *d, struct state *s)
{
    pthread_mutex_lock(&d->lock);
    device_section(d, s);
    pthread_mutex_unlock(&d->lock);
}

void device_reset_all(struct device *devices)
{
    for (struct device *d = devices; d; d = d->next)
        device_reset(d);
}

void device_sync_all(struct device *devices)
{
    for (struct device *d = devices; d; d = d->next) {
        if (!d->ops->sync)
            continue;
        pthread_mutex_lock(&d->lock);
        d->ops->sync(d);
        pthread_mutex_unlock(&d->lock);
    }
}

void device_quiesce_all(struct device *devices)
{
    for (struct device *d = devices; d; d = d->next)
        if (d->ops->quiesce)
            d->ops->quiesce(d);
}

void device_state_all(struct device *devices, struct state *s)
{
    for (struct device *d = devices; d; d = d->next)
        device_state(d, s);
}

void device_destroy_all(struct device *devices)
{
    void *power_on;

    if (!devices)
        return;
    device_destroy_all(devices->next);
    power_on = devices->power_on;
    pthread_mutex_destroy(&devices->lock);
    if (devices->ops->destroy)
        devices->ops->destroy(devices);
    else
        free(devices);
    free(power_on);
}
