/*
 * vms.h: the VMs that run, as the commands find them: by their folders and sockets, nothing else. Single thread.
 */
#ifndef CMD_VMS_H
#define CMD_VMS_H

#include "control/rpc_client.h"
#include "control/rundir.h"

enum { VMS_TIMEOUT_MS = 10000 }; /* for what a VM answers at once */

struct vms_vm {
    const char *name; /* the caller's */
    struct rundir dir;
    struct rpc_client client;
};

/* Connects to a VM. 0; -ENOENT with a sentence that names those that run; or another error. */
must_check int vms_connect(struct vms_vm *vm, const char *name, struct err *e);
void vms_close(struct vms_vm *vm);
/* rpc_client_call() with the VM's name in the sentence. */
must_check int vms_call(struct vms_vm *vm, const char *method, json_t *params, int timeout_ms,
                        json_t **result, struct err *e);
/* Waits until its process has given the name back. 0 or -ETIMEDOUT. */
must_check int vms_wait_end(struct vms_vm *vm, int timeout_ms);
/* Prints the sentence; the command's exit status. */
int vms_failed(int rc, const struct err *e);

#endif
