/*
 * run_uefi.h: where the UEFI variables of a VM are kept that was given no --uefi-vars: beside the disk that it has in the
 * store; by its name, if it has one of --name; nowhere, if it has not. Single thread.
 */
#ifndef CMD_RUN_UEFI_H
#define CMD_RUN_UEFI_H

#include "cmd/options.h"

/* Puts the file into the configuration, after run_image_prepare(). A place that cannot be made is only told of. */
void run_uefi_prepare(struct options *o);
/* Of a VM that has only a name. 0; -ENOENT: there is none; another error with a sentence. */
must_check int run_uefi_remove(const char *name, struct err *e);

#endif
