/*
 * rbd_link.c: names of images in Ceph, and the way to them, see rbd_priv.h.
 *
 * Ceph waits for its servers for minutes or for ever. That is right for a disk in use, which is meant to outlast
 * them, but not for a start: until the image is open everything ends after RBD_PATIENCE seconds.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/rbd_priv.h"

#define RBD_PATIENCE    "15"
#define RBD_OSD_TIMEOUT "rados_osd_op_timeout"

/* --- the name --- */

/* Cuts *rest at the first of the separators that no backslash guards; *found: which one, or 0. */
static char *rbd_link_cut(char **rest, const char *separators, char *found)
{
    char *start = *rest, *from = start, *to = start;

    while (*from && !strchr(separators, *from)) {
        if (*from == '\\' && from[1])
            from++;
        *to++ = *from++;
    }
    *found = *from;
    *rest = *from ? from + 1 : from;
    *to = '\0';
    return start;
}

static int rbd_link_parse(struct rbd_name *n, const char *path, struct err *e)
{
    char *rest, end;

    n->copy = rest = strdup(path + strlen("rbd:"));
    if (!rest)
        return err_set(e, ENOMEM, "out of memory");
    n->pool = rbd_link_cut(&rest, "/:@", &end);
    if (end == '/')
        n->image = rbd_link_cut(&rest, "/:@", &end);
    if (end == '/') {
        n->namespace = n->image;
        n->image = rbd_link_cut(&rest, ":@", &end);
    }
    if (end == '@')
        n->snapshot = rbd_link_cut(&rest, ":", &end);
    n->options = rest;
    if (!*n->pool || !n->image || !*n->image)
        return err_set(
            e, EINVAL,
            "disk '%s': write it as rbd:POOL/IMAGE, with :id=USER:conf=FILE behind it if need be",
            path);
    return 0;
}

/* --- the configuration --- */

static int rbd_link_load(struct rbd_lib *lib, const char *disk, struct err *e)
{
#define RBD_SYMBOL(name) { #name, &lib->name },
    const struct remote_symbol rados[] = { RADOS_FUNCTIONS(RBD_SYMBOL) };
    const struct remote_symbol rbd[] = { RBD_FUNCTIONS(RBD_SYMBOL) };
#undef RBD_SYMBOL

    lib->rados = remote_load("librados.so.2", "librados2", disk, rados, ARRAY_SIZE(rados), e);
    if (!lib->rados)
        return -ENOENT;
    lib->rbd = remote_load("librbd.so.1", "librbd1", disk, rbd, ARRAY_SIZE(rbd), e);
    return lib->rbd ? 0 : -ENOENT;
}

/* An option behind the image's name. */
static int rbd_link_option(struct rbd_link *l, char *option, struct err *e)
{
    char *value = strchr(option, '=');

    if (!value)
        return err_set(e, EINVAL, "rbd: what is \"%s\"? Options are written NAME=VALUE", option);
    *value++ = '\0';
    if (!strcmp(option, "conf") || !strcmp(option, "id"))
        return 0; /* seen before */
    if (l->lib.rados_conf_set(l->cluster, option, value) < 0)
        return err_set(e, EINVAL, "rbd: Ceph does not take %s=%s", option, value);
    return 0;
}

/* The value of an option that is needed before the others, or NULL; a copy. */
static char *rbd_link_find(const char *options, const char *name)
{
    char *copy = strdup(options), *rest = copy, *value = NULL, end;
    size_t n = strlen(name);

    while (copy && *rest && !value) {
        const char *option = rbd_link_cut(&rest, ":", &end);

        if (!strncmp(option, name, n) && option[n] == '=')
            value = strdup(option + n + 1);
    }
    free(copy);
    return value;
}

/* What holds unless the user's configuration says otherwise. Options that a version does not know do no harm. */
static void rbd_link_defaults(const struct rbd_link *l)
{
    static const char *const defaults[][2] = {
        { "client_mount_timeout", RBD_PATIENCE },
        { "rados_mon_op_timeout", RBD_PATIENCE },
        { "err_to_stderr", "false" }, /* what it has to say is in our own sentences */
        { "log_to_stderr", "false" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(defaults); i++)
        l->lib.rados_conf_set(l->cluster, defaults[i][0], defaults[i][1]);
}

static int rbd_link_read_conf(const struct rbd_link *l, const char *conf, const char *path,
                              struct err *e)
{
    int rc = l->lib.rados_conf_read_file(l->cluster, conf);

    if (rc >= 0 || !conf)
        return 0; /* there may be none: the options say it all */
    return err_set(e, -rc, "disk '%s': Ceph's configuration %s cannot be read: %s", path, conf,
                   strerror(-rc));
}

/* Until the image is open the OSDs' answers are not waited for without end. */
static void rbd_link_hurry(struct rbd_link *l)
{
    if (l->lib.rados_conf_get(l->cluster, RBD_OSD_TIMEOUT, l->osd_timeout, sizeof(l->osd_timeout)) <
        0)
        l->osd_timeout[0] = '\0';
    if (!strtoul(l->osd_timeout, NULL, 10)) /* never */
        l->lib.rados_conf_set(l->cluster, RBD_OSD_TIMEOUT, RBD_PATIENCE);
}

static void rbd_link_relax(const struct rbd_link *l)
{
    l->lib.rados_conf_set(l->cluster, RBD_OSD_TIMEOUT, *l->osd_timeout ? l->osd_timeout : "0");
}

static int rbd_link_configure(struct rbd_link *l, const char *path, struct err *e)
{
    char *id = rbd_link_find(l->name.options, "id"), *conf = rbd_link_find(l->name.options, "conf");
    char *rest = l->name.options, end;
    int rc = l->lib.rados_create(&l->cluster, id);

    if (rc < 0) {
        l->cluster = NULL;
        err_set(e, -rc, "disk '%s': Ceph cannot be used: %s", path, strerror(-rc));
    } else {
        rbd_link_defaults(l);
        rc = rbd_link_read_conf(l, conf, path, e);
    }
    while (rc >= 0 && *rest)
        rc = rbd_link_option(l, rbd_link_cut(&rest, ":", &end), e);
    if (rc >= 0)
        rbd_link_hurry(l);
    free(id);
    free(conf);
    return rc < 0 ? rc : 0;
}

/* --- the cluster --- */

/* What is usually behind a failure to connect. */
static const char *rbd_link_cure(int err)
{
    switch (err) {
    case ENOENT:
        return "no monitor is known: say where with :conf=FILE (else /etc/ceph/ceph.conf) or "
               ":mon_host=ADDRESS, and whose keyring with :id=USER:keyring=FILE";
    case ETIMEDOUT:
        return "no answer from its monitors: is `ceph -s` well?";
    case EACCES:
    case EPERM:
        return "it says no: :id=USER:keyring=FILE says who you are (else client.admin)";
    default:
        return strerror(err);
    }
}

static int rbd_link_connect(struct rbd_link *l, const char *path, struct err *e)
{
    const struct rbd_name *n = &l->name;
    int rc = l->lib.rados_connect(l->cluster);

    if (rc < 0)
        return err_set(e, -rc, "disk '%s': the Ceph cluster cannot be reached: %s", path,
                       rbd_link_cure(-rc));
    rc = l->lib.rados_ioctx_create(l->cluster, n->pool, &l->pool);
    if (rc < 0) {
        l->pool = NULL;
        return rc == -ENOENT
                   ? err_set(e, ENOENT, "disk '%s': there is no pool %s (see `ceph osd pool ls`)",
                             path, n->pool)
                   : err_set(e, -rc, "disk '%s': the pool %s cannot be used: %s", path, n->pool,
                             strerror(-rc));
    }
    if (n->namespace)
        l->lib.rados_ioctx_set_namespace(l->pool, n->namespace);
    return 0;
}

int rbd_link_open(struct rbd_link *l, const char *path, struct err *e)
{
    int rc = rbd_link_parse(&l->name, path, e);

    if (!rc)
        rc = rbd_link_load(&l->lib, path, e);
    if (!rc)
        rc = rbd_link_configure(l, path, e);
    return rc ? rc : rbd_link_connect(l, path, e);
}

void rbd_link_close(struct rbd_link *l)
{
    if (l->pool)
        l->lib.rados_ioctx_destroy(l->pool);
    if (l->cluster)
        l->lib.rados_shutdown(l->cluster);
    free(l->name.copy);
}

/* --- the image --- */

static int rbd_link_no_image(const struct rbd_link *l, const char *path, int err, struct err *e)
{
    const struct rbd_name *n = &l->name;

    if (err == ENOENT && n->snapshot)
        return err_set(e, ENOENT,
                       "disk '%s': image %s has no snapshot %s, or is not there (see `rbd snap ls "
                       "%s/%s`)",
                       path, n->image, n->snapshot, n->pool, n->image);
    if (err == ENOENT)
        return err_set(e, ENOENT,
                       "disk '%s': there is no image %s (see `rbd ls %s`; `ruche image create` "
                       "makes one)",
                       path, n->image, n->pool);
    return err_set(e, err, "disk '%s': the image %s cannot be used: %s", path, n->image,
                   err == ETIMEDOUT ? "no answer from the cluster's OSDs: is `ceph -s` well?"
                                    : strerror(err));
}

int rbd_link_image(struct rbd_link *l, const char *path, bool readonly, rbd_image_t *image,
                   struct err *e)
{
    const struct rbd_name *n = &l->name;
    int rc = readonly ? l->lib.rbd_open_read_only(l->pool, n->image, image, n->snapshot)
                      : l->lib.rbd_open(l->pool, n->image, image, NULL);

    if (rc < 0) {
        *image = NULL;
        return rbd_link_no_image(l, path, -rc, e);
    }
    rbd_link_relax(l);
    return 0;
}

int rbd_link_create(struct rbd_link *l, const char *path, uint64_t size, struct err *e)
{
    rbd_image_options_t options;
    int rc;

    if (l->name.snapshot)
        return err_set(e, EINVAL, "image '%s': a snapshot is made by `rbd snap create`", path);
    l->lib.rbd_image_options_create(&options);
    rc = l->lib.rbd_create4(l->pool, l->name.image, size, options);
    l->lib.rbd_image_options_destroy(options);
    if (rc == -EEXIST)
        return err_set(e, EEXIST, "image '%s' is there already; `rbd rm %s/%s` removes it", path,
                       l->name.pool, l->name.image);
    return rc < 0 ? err_set(e, -rc, "image '%s' cannot be made: %s", path, strerror(-rc)) : 0;
}
