/*
 * ruche.c: the command line's main(): finds the command and hands over.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} ruche_commands[] = {
#define COMMAND(name, function, synopsis, text) { name, function },
#include "cmd/commands.def"
#undef COMMAND
};

/* A descriptor 0, 1 or 2 that is closed would be taken by the next file opened, and be written to. */
static void ruche_open_std_fds(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* What other hypervisors call it, or what somebody tries first. */
static const char *ruche_synonym(const char *typed)
{
    static const char *const media[] = { "cdrom", "change-media", "eject", "floppy", "insert" };

    for (size_t i = 0; i < ARRAY_SIZE(media); i++)
        if (!strcmp(typed, media[i]))
            return "media";
    return NULL;
}

static int ruche_unknown(const char *typed)
{
    const char *names[ARRAY_SIZE(ruche_commands)], *near;

    for (size_t i = 0; i < ARRAY_SIZE(ruche_commands); i++)
        names[i] = ruche_commands[i].name;
    near = ruche_synonym(typed);
    if (!near)
        near = cmd_suggest(typed, names, ARRAY_SIZE(names));
    if (near)
        fprintf(stderr, "ruche: there is no command %s; did you mean `ruche %s`?\n", typed, near);
    else
        fprintf(stderr, "ruche: there is no command %s; `ruche help` lists them\n", typed);
    return CMD_USAGE;
}

/* What was printed counts only if it arrived: a full disk is not a success. */
static int ruche_flush(int status)
{
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "ruche: cannot write the output: %s\n", strerror(errno));
        return status ? status : CMD_HOST;
    }
    return status;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "help";

    ruche_open_std_fds();
    if (!strcmp(name, "--help") || !strcmp(name, "-h"))
        name = "help";
    if (!strcmp(name, "--version") || !strcmp(name, "-V"))
        name = "version";
    for (size_t i = 0; i < ARRAY_SIZE(ruche_commands); i++)
        if (!strcmp(ruche_commands[i].name, name))
            return ruche_flush(
                ruche_commands[i].run(argc > 1 ? argc - 1 : argc, argc > 1 ? argv + 1 : argv));
    return ruche_unknown(name);
}
