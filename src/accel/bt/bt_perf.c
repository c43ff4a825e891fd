/*
 * bt_perf.c: perf's map file. perf takes the process's id in its innermost PID namespace, which is what
 * getpid() says, and wants the file to be owned by whoever runs perf. Each line is one write() at the file's
 * end, so vCPUs need no lock and a VM that is killed leaves all names there.
 */
#include "accel/bt/bt_perf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/symbols.h"
#include "base/util.h"

enum { PERF_FILE_MAX = 64 * MIB, PERF_LINE = 256 };

struct bt_perf {
    int fd;
    _Atomic uint64_t written;
    struct symbols *symbols;
};

int bt_perf_create(struct bt_perf **out, const char *symbols, struct err *e)
{
    struct bt_perf *p = calloc(1, sizeof(*p));
    char path[64];
    int rc;

    if (!p) {
        err_oom(e);
        return -ENOMEM;
    }
    p->fd = -1;
    rc = symbols ? symbols_load(&p->symbols, symbols, e) : 0;
    if (rc)
        goto fail;
    snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
    unlink(path); /* an earlier process's */
    p->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (p->fd < 0) {
        rc =
            err_set(e, errno, "%s, which perf reads, cannot be written: %s", path, strerror(errno));
        goto fail;
    }
    *out = p;
    return 0;

fail:
    bt_perf_destroy(p);
    return rc;
}

void bt_perf_destroy(struct bt_perf *p)
{
    if (!p)
        return;
    util_close(&p->fd);
    symbols_destroy(p->symbols);
    free(p);
}

void bt_perf_name(struct bt_perf *p, const uint8_t *code, size_t len, const char *name)
{
    char line[PERF_LINE];
    int n;

    if (!p)
        return;
    n = snprintf(line, sizeof(line), "%lx %zx %.200s\n", (unsigned long)(uintptr_t)code, len, name);
    if (atomic_fetch_add(&p->written, (uint64_t)n) + (uint64_t)n > PERF_FILE_MAX)
        return;
    /* A full disk costs names and nothing else. */
    if (write(p->fd, line, (size_t)n) != n)
        atomic_store(&p->written, PERF_FILE_MAX);
}

void bt_perf_guest(struct bt_perf *p, const uint8_t *code, size_t len, uint64_t lin, bool user)
{
    const char *symbol;
    char name[PERF_LINE];
    uint64_t off;

    if (!p)
        return;
    symbol = user ? NULL : symbols_find(p->symbols, lin, &off);
    if (symbol)
        snprintf(name, sizeof(name), "guest %.190s", symbol);
    else
        snprintf(name, sizeof(name), "guest %s0x%llx", user ? "user " : "",
                 (unsigned long long)(user ? lin & PAGE_MASK : lin));
    bt_perf_name(p, code, len, name);
}
