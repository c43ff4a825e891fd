/*
 * run_seed.h: --user, --ssh-key, --hostname and --cloud-init: a disk with what cloud-init is to do. Single thread.
 */
#ifndef CMD_RUN_SEED_H
#define CMD_RUN_SEED_H

#include "cmd/options.h"

/*
 * Puts the seed behind the other disks, if one is asked for: in memory, as a descriptor that the VM's process
 * inherits. 0 or -errno with a sentence.
 */
must_check int run_seed_prepare(struct options *o, struct err *e);

#endif
