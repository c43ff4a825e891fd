#include "net/port_holder.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PORT_HOLDER_TCP_LISTEN = 0x0a };

/* The inode of a socket bound to port, from one of the tables under /proc/net; 0: none. */
static unsigned long port_holder_inode(const char *table, bool udp, uint16_t port)
{
    unsigned long inode, found = 0;
    unsigned local, state;
    char line[512];
    FILE *f = fopen(table, "re");

    if (!f)
        return 0;
    while (!found && fgets(line, sizeof(line), f))
        /* The kernel's own numbers. NOLINTNEXTLINE(cert-err34-c) */
        if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*u %*u %lu",
                   &local, &state, &inode) == 3 &&
            local == port && (udp || state == PORT_HOLDER_TCP_LISTEN))
            found = inode;
    fclose(f);
    return found;
}

/* Does the process whose fd folder this is hold the socket? Other users' cannot be read. */
static bool port_holder_has(int proc_fd, const char *pid, const char *link)
{
    char path[280], target[64];
    bool found = false;
    struct dirent *d;
    DIR *dir;
    int fd;

    snprintf(path, sizeof(path), "%s/fd", pid);
    fd = openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        util_close(&fd);
        return false;
    }
    while (!found && (d = readdir(dir))) {
        ssize_t n = readlinkat(fd, d->d_name, target, sizeof(target) - 1);

        if (n > 0) {
            target[n] = 0;
            found = !strcmp(target, link);
        }
    }
    closedir(dir);
    return found;
}

static void port_holder_name(const char *pid, char *buf, size_t len)
{
    char path[280], comm[32] = "a program";
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%s/comm", pid);
    f = fopen(path, "re");
    if (f && fgets(comm, sizeof(comm), f))
        comm[strcspn(comm, "\n")] = 0;
    if (f)
        fclose(f);
    snprintf(buf, len, "%s (process %s)", comm, pid);
}

void port_holder_find(bool udp, uint16_t port, char *buf, size_t len)
{
    unsigned long inode = port_holder_inode(udp ? "/proc/net/udp" : "/proc/net/tcp", udp, port);
    struct dirent *d;
    char link[40];
    DIR *proc;

    if (!inode)
        inode = port_holder_inode(udp ? "/proc/net/udp6" : "/proc/net/tcp6", udp, port);
    snprintf(buf, len, "another user's program ('sudo ss -%snp' tells which)", udp ? "lu" : "lt");
    proc = inode ? opendir("/proc") : NULL;
    if (!proc)
        return;
    snprintf(link, sizeof(link), "socket:[%lu]", inode);
    while ((d = readdir(proc)))
        if (isdigit((unsigned char)d->d_name[0]) && port_holder_has(dirfd(proc), d->d_name, link)) {
            port_holder_name(d->d_name, buf, len);
            break;
        }
    closedir(proc);
}
