/* media.c: `ruche media`: which media are in a running VM's drives, and changing them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/file_lock.h"
#include "cmd/args.h"
#include "cmd/cmd.h"
#include "cmd/vms.h"

enum { MEDIA_TIMEOUT_MS = 60000 }; /* requests of a busy disk end first */

struct media_args {
    const char *drive, *file, *format;
    bool eject, force, readonly, json;
};

/* --- showing --- */

static const char *media_text(const json_t *drive, const char *member, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(drive, member));

    return text ? text : otherwise;
}

static void media_print(const json_t *list)
{
    const json_t *drive;
    size_t i;

    printf("%-5s  %-6s  %s\n", "DRIVE", "TRAY", "MEDIUM");
    json_array_foreach(list, i, drive)
    {
        bool locked = json_is_true(json_object_get(drive, "locked"));
        const char *file = media_text(drive, "file", NULL);
        bool protected = file && json_is_true(json_object_get(drive, "readonly")) &&
                         !strcmp(media_text(drive, "kind", ""), "floppy");

        printf("%-5s  %-6s  %s%s\n", media_text(drive, "drive", "-"),
               locked ? "locked" : media_text(drive, "tray", "-"), file ? file : "(empty)",
               protected ? " (write-protected)" : "");
    }
    if (!json_array_size(list))
        printf("(this VM has no drive whose medium can be changed)\n");
}

static void media_show(const struct media_args *a, const json_t *list)
{
    if (a->json) {
        json_dumpf(list, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        putchar('\n');
    } else if (!a->drive) {
        media_print(list);
    }
}

/* --- changing --- */

static bool media_is_nothing(const char *file)
{
    return !strcmp(file, "none") || !strcmp(file, "empty") || !strcmp(file, "emptydrive");
}

static bool media_is_floppy(const char *drive)
{
    return strchr("fFaAbB", *drive) != NULL;
}

/*
 * The file, opened by us because the VM may not, and locked, because we can tell who else uses it. The lock belongs
 * to what is open, and so goes with it to the VM. An fd or -errno.
 */
static int media_open(const struct media_args *a, const char *path, struct err *e)
{
    bool write = media_is_floppy(a->drive) && !a->readonly;
    struct stat st;
    int fd, rc;

    if (stat(path, &st))
        return err_set(e, errno, "%s cannot be used: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) /* to open a pipe would wait */
        return err_set(e, EINVAL, "%s is neither a file nor a block device", path);
    fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return err_set(
            e, errno, "%s cannot be opened%s: %s%s", path, write ? " for writing" : "",
            strerror(errno),
            write && !access(path, R_OK) ? "; --readonly makes it a write-protected floppy" : "");
    rc = file_lock(fd, path, write, e);
    if (rc) {
        close(fd);
        return rc;
    }
    return fd;
}

static int media_insert(struct vms_vm *vm, const struct media_args *a, json_t **list, struct err *e)
{
    char *path = realpath(a->file, NULL);
    int fd = media_open(a, path ? path : a->file, e), rc = fd < 0 ? fd : 0;
    json_t *params = NULL;

    if (!rc) {
        params = json_pack("{s:s, s:s, s:s*, s:b, s:b}", "drive", a->drive, "file", path, "format",
                           a->format, "force", a->force, "readonly", a->readonly);
        if (!params)
            rc = err_set(e, EINVAL, "the file's name is not valid UTF-8");
    }
    if (!rc) {
        rpc_client_pass(&vm->client, fd);
        rc = vms_call(vm, "media", params, MEDIA_TIMEOUT_MS, list, e);
    }
    util_close(&fd);
    free(path);
    return rc;
}

static int media_do(struct vms_vm *vm, const struct media_args *a, json_t **list, struct err *e)
{
    if (!a->drive)
        return vms_call(vm, "media", NULL, MEDIA_TIMEOUT_MS, list, e);
    if (a->file)
        return media_insert(vm, a, list, e);
    return vms_call(vm, "media",
                    json_pack("{s:s, s:b, s:b}", "drive", a->drive, "eject", 1, "force", a->force),
                    MEDIA_TIMEOUT_MS, list, e);
}

static int media_check(struct media_args *a, struct err *e)
{
    if (a->file && media_is_nothing(a->file)) {
        a->eject = true;
        a->file = NULL;
    }
    if (a->eject && a->file)
        return err_set(e, EINVAL, "ruche media: either a file or --eject, not both");
    if (a->eject && !a->drive)
        return err_set(e, EINVAL,
                       "ruche media: --eject needs a drive: `ruche media NAME` lists them");
    if (a->drive && !a->file && !a->eject)
        return err_set(
            e, EINVAL,
            "ruche media: a file to put into %s is missing, or --eject; `ruche media NAME` "
            "lists what is in the drives",
            a->drive);
    return 0;
}

int cmd_media(int argc, char **argv)
{
    struct media_args a = { 0 };
    bool insert = false; /* what is meant anyway */
    const struct arg_option options[] = {
        { "--eject", .given = &a.eject },       { "--insert", "--update", .given = &insert },
        { "--force", "-f", .given = &a.force }, { "--readonly", "--ro", .given = &a.readonly },
        { "--format", .value = &a.format },     { "--json", .given = &a.json },
    };
    json_t *list = NULL;
    struct err e = { 0 };
    struct vms_vm vm;
    int n, rc = args_words(argc, argv, options, ARRAY_SIZE(options), 1, 3, &n, &e);

    if (rc)
        return args_failed(rc, &e);
    a.drive = n > 1 ? argv[2] : NULL;
    a.file = n > 2 ? argv[3] : NULL;
    rc = media_check(&a, &e);
    if (rc)
        return args_failed(rc, &e);
    rc = vms_connect(&vm, argv[1], &e);
    if (rc)
        return vms_failed(rc, &e);
    rc = media_do(&vm, &a, &list, &e);
    vms_close(&vm);
    if (!rc)
        media_show(&a, list);
    json_decref(list);
    return rc ? cmd_fail(&e) : CMD_OK;
}
