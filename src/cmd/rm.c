/* rm.c: `ruche rm`: removes VMs that `ruche run NAME` has made, with their disks; and UEFI variables kept by name. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/cmd.h"
#include "cmd/run_uefi.h"
#include "control/rundir.h"
#include "image/store.h"

enum { RM_WORDS_MAX = 1024 };

static int rm_one(const char *name, struct err *e)
{
    struct rundir dir;
    pid_t pid = rundir_open(&dir, name) ? 0 : rundir_holder(&dir);
    int rc, vars;

    rundir_close(&dir);
    if (pid)
        return err_set(e, EBUSY, "the VM %s is running, as process %d: `ruche stop %s` first", name,
                       (int)pid, name);
    vars = run_uefi_remove(name, e);
    if (vars && vars != -ENOENT)
        return vars;
    rc = store_remove(STORE_VMS, name, e);
    return rc == -ENOENT ? vars : rc;
}

int cmd_rm(int argc, char **argv)
{
    struct err e = { 0 };
    int n, rc = args_words(argc, argv, NULL, 0, 1, RM_WORDS_MAX, &n, &e);

    if (rc)
        return args_failed(rc, &e);
    for (int i = 1; !rc && i <= n; i++)
        rc = rm_one(argv[i], &e);
    if (rc == -ENOENT) {
        fprintf(stderr, "ruche: %s\n", e.msg);
        return CMD_NO_VM;
    }
    return rc ? cmd_fail(&e) : CMD_OK;
}
