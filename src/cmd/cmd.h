/*
 * cmd.h: what the files of the command line share. Single thread; the process ends with the result.
 */
#ifndef CMD_CMD_H
#define CMD_CMD_H

#include <stdio.h>

#include "base/err.h"

/* How `ruche run` ends. Even numbers, because those of --debug-exit are odd: (v << 1) | 1. */
enum cmd_status {
#define STATUS(name, value, text) CMD_##name = value,
#include "cmd/status.def"
#undef STATUS
};

/* The commands of cmd/commands.def; each gets its own name in argv[0]. Returns the exit status. */
int cmd_run(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_image(int argc, char **argv);
int cmd_help(int argc, char **argv);
int cmd_key(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_logs(int argc, char **argv);
int cmd_media(int argc, char **argv);
int cmd_pause(int argc, char **argv);
int cmd_reset(int argc, char **argv);
int cmd_resume(int argc, char **argv);
int cmd_rm(int argc, char **argv);
int cmd_screenshot(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_type(int argc, char **argv);
int cmd_version(int argc, char **argv);

/* Prints "ruche: sentence" and tells which status belongs to it: bad input or a host that cannot. */
int cmd_fail(const struct err *e);
int cmd_status_of_errno(int code);
/* How a command is used; false: there is none of that name. */
bool cmd_print_usage(const char *name, FILE *f);

/* The name of `known` (n of them) that is nearest to what was typed, or NULL if none is near. */
const char *cmd_suggest(const char *typed, const char *const *known, size_t n);

#endif
