/*
 * run_image.c: see run_image.h. A VM of the store is an overlay of its image: it is there at once, and keeps
 * what is written to it until `ruche rm`.
 */
#include "cmd/run_image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/image_store.h"
#include "image/create.h"

static void run_image_names(char *text, size_t len)
{
    struct store_names l;
    size_t at = 0;

    snprintf(text, len, "none");
    if (store_list(STORE_IMAGES, &l))
        return;
    for (size_t i = 0; i < l.n && at < len; i++)
        at += (size_t)snprintf(text + at, len - at, "%s%s", i ? ", " : "", l.name[i]);
    store_names_free(&l);
}

static bool run_image_can_be_built(const char *name)
{
    return !strcmp(name, "debian") || !strncmp(name, "debian:", 7);
}

static int run_image_none(const char *name, struct err *e)
{
    char names[256];

    run_image_names(names, sizeof(names));
    *e = (struct err){ 0 };
    if (!access(name, F_OK))
        return err_set(e, ENOENT,
                       "%s is a file: run it with --disk %s, or take it into the list of images "
                       "with `ruche image pull %s`",
                       name, name, name);
    return err_set(e, ENOENT,
                   "there is no image %.64s; there are: %s. `ruche image pull` takes in a file, "
                   "`ruche run debian` makes one; options begin with --",
                   name, names);
}

/* The first run of a distribution makes its image. */
static int run_image_open(struct store_entry *image, const char *name, struct err *e)
{
    int rc = store_open(image, STORE_IMAGES, name, e);

    if (rc != -ENOENT)
        return rc;
    if (!run_image_can_be_built(name))
        return run_image_none(name, e);
    *e = (struct err){ 0 };
    fprintf(stderr, "ruche: there is no image %s yet: it is made now, once\n", name);
    rc = image_build_default(name, e);
    return rc ? rc : store_open(image, STORE_IMAGES, name, e);
}

static int run_image_make_overlay(struct store_entry *vm, const struct store_entry *image,
                                  struct err *e)
{
    char base[PATH_MAX], disk[PATH_MAX];
    struct blk_create_opts o = {
        .path = disk,
        .format = "qcow2",
        .backing = base,
        .backing_format = json_string_value(json_object_get(image->meta, "format")),
    };

    store_disk(image, base, sizeof(base));
    store_file(vm, "disk.qcow2", disk, sizeof(disk));
    o.size = (uint64_t)json_integer_value(json_object_get(image->meta, "size"));
    json_object_set_new(vm->meta, "image", json_string(image->name));
    json_object_set_new(vm->meta, "disk", json_string("disk.qcow2"));
    return image_create_empty(&o, e);
}

/* Another `ruche run` may make the same VM meanwhile: the first one counts. */
static int run_image_make_vm(struct store_entry *vm, const char *name, const char *image_name,
                             struct err *e)
{
    struct store_entry image;
    int rc = run_image_open(&image, image_name, e);

    if (rc)
        return rc;
    rc = store_begin(vm, STORE_VMS, name, e);
    if (!rc) {
        rc = run_image_make_overlay(vm, &image, e);
        if (!rc)
            rc = store_commit(vm, STORE_VMS, e);
        if (rc)
            store_abort(vm);
    }
    store_close(&image);
    if (rc) {
        struct err other = { 0 };

        if (!store_open(vm, STORE_VMS, name, &other))
            rc = 0;
    }
    return rc;
}

static int run_image_check(const struct store_entry *vm, const char *image, struct err *e)
{
    const char *stands_on = json_string_value(json_object_get(vm->meta, "image"));

    if (!stands_on || !strcmp(stands_on, image) || !strcmp(vm->name, image))
        return 0;
    return err_set(e, EEXIST,
                   "there is a VM %s already, and it stands on the image %s, not on %s: choose "
                   "another --name, or remove it and its disk with `ruche rm %s`",
                   vm->name, stands_on, image, vm->name);
}

int run_image_prepare(struct options *o, struct err *e)
{
    const char *name = o->config.name;
    char path[PATH_MAX];
    struct store_entry vm;
    int rc;

    if (!o->image)
        return 0;
    rc = store_open(&vm, STORE_VMS, name, e);
    if (rc == -ENOENT && !o->dry_run) {
        *e = (struct err){ 0 };
        rc = run_image_make_vm(&vm, name, o->image, e);
    }
    if (rc)
        return rc == -ENOENT && o->dry_run ? run_image_none(o->image, e) : rc;
    rc = run_image_check(&vm, o->image, e);
    store_disk(&vm, path, sizeof(path));
    store_close(&vm);
    return rc ? rc : options_first_disk(o, path, "qcow2", e);
}
