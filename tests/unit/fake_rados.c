/*
 * librados.so.2 for test_rbd: a cluster that is up unless mon_host=down, with all pools but "none". How long OSDs are
 * waited for is in the environment's FAKE_OSD_TIMEOUT, where librbd's fake and the test see it.
 */
#include <errno.h>
#include <rados/librados.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fake_cluster {
    int down;
};

int rados_create(rados_t *cluster, const char *const id)
{
    *cluster = id && !strcmp(id, "nobody") ? NULL : calloc(1, sizeof(struct fake_cluster));
    return *cluster ? 0 : -EACCES;
}

int rados_conf_read_file(rados_t cluster, const char *path)
{
    (void)cluster;
    return path ? -ENOENT : 0;
}

int rados_conf_get(rados_t cluster, const char *option, char *buf, size_t len)
{
    (void)cluster;
    if (strcmp(option, "rados_osd_op_timeout"))
        return -ENOENT;
    snprintf(buf, len, "%s", getenv("FAKE_OSD_TIMEOUT"));
    return 0;
}

int rados_conf_set(rados_t cluster, const char *option, const char *value)
{
    if (!strcmp(option, "rados_osd_op_timeout"))
        return setenv("FAKE_OSD_TIMEOUT", value, 1);
    if (strcmp(option, "mon_host"))
        return -ENOENT;
    ((struct fake_cluster *)cluster)->down = !strcmp(value, "down:1");
    return 0;
}

int rados_connect(rados_t cluster)
{
    return ((struct fake_cluster *)cluster)->down ? -ETIMEDOUT : 0;
}

int rados_ioctx_create(rados_t cluster, const char *pool, rados_ioctx_t *io)
{
    *io = cluster;
    return strcmp(pool, "none") ? 0 : -ENOENT;
}

void rados_ioctx_set_namespace(rados_ioctx_t io, const char *name)
{
    (void)io;
    (void)name;
}

void rados_ioctx_destroy(rados_ioctx_t io)
{
    (void)io;
}

void rados_shutdown(rados_t cluster)
{
    free(cluster);
}
