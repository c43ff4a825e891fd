/*
 * cmd.c: the commands `help` and `version`, and how failures are told.
 */
#include "cmd/cmd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/options.h"

int cmd_status_of_errno(int code)
{
    switch (code) {
    case ENOMEM:
    case EADDRINUSE:
    case EADDRNOTAVAIL:
    case EPERM:
    case ENODEV:
    case ENXIO:
    case ENOTSUP:
    case ENOSYS:
    case EMFILE:
    case ENFILE:
    case EAGAIN:
        return CMD_HOST;
    case EBUSY:
        return CMD_BUSY;
    default:
        return CMD_BAD_INPUT;
    }
}

int cmd_fail(const struct err *e)
{
    fprintf(stderr, "ruche: %s\n", e->msg);
    return cmd_status_of_errno(e->code);
}

int cmd_version(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("ruche %s\n", RUCHE_VERSION);
    return CMD_OK;
}

bool cmd_print_usage(const char *name, FILE *f)
{
    static const struct {
        const char *name, *synopsis, *text;
    } commands[] = {
#define COMMAND(name, function, synopsis, text) { name, synopsis, text },
#include "cmd/commands.def"
#undef COMMAND
#define IMAGE(id, name, function, synopsis, text) { "image " name, "image " synopsis, text },
#include "cmd/image.def"
#undef IMAGE
    };

    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        if (!strcmp(commands[i].name, name)) {
            fprintf(f, "Usage: ruche %s\n\n%s\n", commands[i].synopsis, commands[i].text);
            return true;
        }
    return false;
}

int cmd_help(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "run")) {
        options_print_help(stdout);
        return CMD_OK;
    }
    if (argc > 1 && cmd_print_usage(argv[1], stdout))
        return CMD_OK;
    printf("Ruche runs virtual machines, with hardware virtualization or without.\n\nCommands:\n");
#define COMMAND(name, function, synopsis, text) printf("  ruche %s\n        %s\n", synopsis, text);
#include "cmd/commands.def"
#undef COMMAND
    printf("\nTry: ruche run --kernel vmlinuz --initrd initrd.gz --append \"console=ttyS0\" "
           "--memory 512M\n");
    return CMD_OK;
}
