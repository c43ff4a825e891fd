/*
 * control_media.h: the control socket's method `media`: lists the drives whose medium can be changed, and changes
 * one. Loop thread.
 */
#ifndef CONTROL_CONTROL_MEDIA_H
#define CONTROL_CONTROL_MEDIA_H

#include "control/rpc_server.h"
#include "vm/vm.h"

/* As struct rpc_method's call(), for this VM. An image comes as a descriptor beside the request. */
void control_media(struct vm *vm, struct rpc_call *c, json_t *params);
/* For the status: "file" of disk number index, as it is now; NULL: it is an empty drive. */
const char *control_disk_file(struct vm *vm, unsigned index);

#endif
