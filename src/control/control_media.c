/* control_media.c: see control_media.h. */
#include "control/control_media.h"

#include <errno.h>
#include <unistd.h>

#include "vm/machine_pc.h"

struct media_request {
    const char *drive, *file, *format;
    int eject, force, readonly;
};

const char *control_disk_file(struct vm *vm, unsigned index)
{
    struct machine_drive d;

    return machine_pc_drive(vm, index, &d) ? d.file : vm->cfg->disk[index].path;
}

static json_t *media_list(struct vm *vm)
{
    json_t *list = json_array();
    struct machine_drive d;

    for (unsigned i = 0; i < vm->cfg->n_disks; i++) {
        json_t *drive;

        if (!machine_pc_drive(vm, i, &d))
            continue;
        drive = json_pack("{s:s, s:s, s:s?, s:s?, s:b}", "drive", d.name, "kind",
                          d.floppy ? "floppy" : "cdrom", "file", d.file, "format", d.format,
                          "readonly", d.readonly);
        if (d.file)
            json_object_set_new(drive, "size", json_integer((json_int_t)d.size));
        if (!d.floppy) {
            json_object_set_new(drive, "tray", json_string(d.open ? "open" : "closed"));
            json_object_set_new(drive, "locked", json_boolean(d.locked));
        }
        json_array_append_new(list, drive);
    }
    return list;
}

/* 0, or -errno with a sentence. */
static int media_change(struct vm *vm, const struct media_request *q, int fd, struct err *e)
{
    struct machine_medium m = {
        .fd = fd, .path = q->file, .format = q->format, .readonly = q->readonly
    };

    if (q->eject && q->file)
        return err_set(e, EINVAL, "either file or eject, not both");
    if (!q->eject && !q->file)
        return err_set(e, EINVAL, "a file to put in, or eject: true, is missing");
    if (q->eject)
        return machine_pc_change_medium(vm, q->drive, NULL, q->force, e);
    if (fd <= 0)
        return err_set(
            e, EINVAL,
            "the VM may open no file: send its descriptor beside the request (SCM_RIGHTS), as "
            "`ruche media` does");
    return machine_pc_change_medium(vm, q->drive, &m, q->force, e);
}

void control_media(struct vm *vm, struct rpc_call *c, json_t *params)
{
    struct media_request q = { 0 };
    struct err e = { 0 };
    json_error_t error;
    int fd;

    if (json_unpack_ex(params, &error, JSON_STRICT, "{s?s, s?s, s?s, s?b, s?b, s?b}", "drive",
                       &q.drive, "file", &q.file, "format", &q.format, "eject", &q.eject, "force",
                       &q.force, "readonly", &q.readonly)) {
        rpc_refuse(c, RPC_INVALID_PARAMS, "%s", error.text);
        return;
    }
    if (!q.drive) {
        rpc_answer(c, media_list(vm));
        return;
    }
    fd = rpc_take_fd(c);
    if (media_change(vm, &q, fd, &e))
        rpc_refuse(c, RPC_FAILED, "%s", e.msg);
    else
        rpc_answer(c, media_list(vm));
    util_close(&fd);
}
