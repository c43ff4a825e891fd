/* run_uefi.c: see run_uefi.h. */
#include "cmd/run_uefi.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "image/store.h"

/* Of a VM with a disk of the store: `ruche rm` removes both. */
static int run_uefi_in_store(const char *name, char *path, size_t len)
{
    struct store_entry vm;
    struct err e = { 0 };
    int rc = store_open(&vm, STORE_VMS, name, &e);

    if (rc)
        return rc;
    store_file(&vm, "uefi.vars", path, len);
    store_close(&vm);
    return 0;
}

/* Firmware that is found out may turn out to be a BIOS: then the file is not made. */
static bool run_uefi_possible(const struct vm_config *c)
{
    return c->firmware && (!strcmp(c->firmware, "uefi") || !strcmp(c->firmware, "auto"));
}

void run_uefi_prepare(struct options *o)
{
    struct vm_config *c = &o->config;
    char path[PATH_MAX];
    struct err e = { 0 };
    int rc;

    if (c->uefi_vars && !strcmp(c->uefi_vars, "none")) {
        free(c->uefi_vars);
        c->uefi_vars = NULL;
        return;
    }
    if (c->uefi_vars || c->any_name || !run_uefi_possible(c))
        return;
    rc = o->image ? run_uefi_in_store(c->name, path, sizeof(path))
                  : store_uefi_vars(c->name, !o->dry_run, path, sizeof(path), &e);
    if (!rc)
        c->uefi_vars = strdup(path);
    else if (e.msg[0])
        fprintf(stderr, "ruche: the UEFI variables of %s will not be kept: %s\n", c->name, e.msg);
}

int run_uefi_remove(const char *name, struct err *e)
{
    char path[PATH_MAX];
    struct err none = { 0 };

    if (store_uefi_vars(name, false, path, sizeof(path), &none))
        return -ENOENT;
    if (!unlink(path))
        return 0;
    return errno == ENOENT ? -ENOENT
                           : err_set(e, errno, "cannot remove %s: %s", path, strerror(errno));
}
