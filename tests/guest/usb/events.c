/*
 * events.c: prints what the kernel's input devices report, one line an event: device, type, code, value. Begins
 * when there are so many devices as its argument says, and ends when the key F12 is released.
 */
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { DEVICES = 16, TRIES = 600 };

static int events_open(unsigned i)
{
    char path[32], name[64] = "?";
    int fd;

    snprintf(path, sizeof(path), "/dev/input/event%u", i);
    fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd >= 0) {
        ioctl(fd, EVIOCGNAME(sizeof(name)), name);
        printf("DEVICE %u %s\n", i, name);
    }
    return fd;
}

/* Prints an event; is it the last one? */
static int events_print(unsigned device, const struct input_event *v)
{
    static const char *const types[] = { "syn", "key", "rel", "abs" };

    if (v->type == EV_KEY || v->type == EV_REL || v->type == EV_ABS)
        printf("EVENT %u %s %u %d\n", device, types[v->type], v->code, v->value);
    return v->type == EV_KEY && v->code == KEY_F12 && !v->value;
}

int main(int argc, char **argv)
{
    unsigned want = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1, n = 0;
    struct pollfd fd[DEVICES];
    struct input_event v;
    char path[32];

    for (unsigned i = 0; i < TRIES; i++) { /* names come in any order, without a gap in the end */
        snprintf(path, sizeof(path), "/dev/input/event%u", want - 1);
        if (!access(path, R_OK))
            break;
        usleep(100000);
    }
    for (; n < DEVICES; n++) {
        fd[n] = (struct pollfd){ events_open(n), POLLIN, 0 };
        if (fd[n].fd < 0)
            break;
    }
    printf("READY\n");
    fflush(stdout);
    while (poll(fd, n, -1) > 0) {
        for (unsigned i = 0; i < n; i++)
            while (read(fd[i].fd, &v, sizeof(v)) == sizeof(v))
                if (events_print(i, &v))
                    return 0;
        fflush(stdout);
    }
    return 1;
}
