/*
 * options_disk.h: the part of --disk that says how a disk is used. Single thread.
 */
#ifndef CMD_OPTIONS_DISK_H
#define CMD_OPTIONS_DISK_H

#include "vm/config.h"

/* For messages: what options_disk_io() knows. */
#define OPTIONS_DISK_IO                                                                            \
    "cache=writeback|writethrough|none|directsync|unsafe, aio=uring|threads, "                     \
    "discard=unmap|ignore, "                                                                       \
    "detect-zeroes=off|on|unmap, iops=N, iops_rd=N, iops_wr=N, bps=SIZE, bps_rd=SIZE, "            \
    "bps_wr=SIZE, "                                                                                \
    "burst=SECONDS, timeout=SECONDS, on-io-error=enospc|report|pause|ignore"

/* "name=value": 1 if it was one of these; 0: something else; or -errno. Words are checked by config_check(). */
must_check int options_disk_io(struct config_disk *d, const char *item, struct err *e);

#endif
