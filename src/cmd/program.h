/*
 * program.h: other programs, run and waited for. Single thread.
 */
#ifndef CMD_PROGRAM_H
#define CMD_PROGRAM_H

#include "base/err.h"

/*
 * Its output and errors are ours, its input is empty. A signal that is to end us ends it, and we live on to clean up.
 * Its exit status; or -errno with a sentence: it could not be started, or a signal came (-EINTR). No file that it
 * writes becomes larger than file_max bytes (0: any).
 */
must_check int program_status(const char *const argv[], uint64_t file_max, struct err *e);
/* The same, and an exit status is a failure with a sentence. */
must_check int program_run(const char *const argv[], struct err *e);
/* A program of ours that is no command: in the source tree's tools, or installed in libexec. */
must_check int program_find(const char *name, char *path, size_t len, struct err *e);

#endif
