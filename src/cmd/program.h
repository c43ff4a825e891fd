/*
 * program.h: other programs, run and waited for. Single thread.
 */
#ifndef CMD_PROGRAM_H
#define CMD_PROGRAM_H

#include "base/err.h"

/* Its output and errors are ours, its input is empty. 0; a sentence if it cannot be started or fails. */
must_check int program_run(const char *const argv[], struct err *e);
/* A program of ours that is no command: in the source tree's tools, or installed in libexec. */
must_check int program_find(const char *name, char *path, size_t len, struct err *e);

#endif
