#include "cmd/options_disk.h"

#include <errno.h>
#include <string.h>

enum disk_io_kind { DISK_IO_WORD, DISK_IO_NUMBER, DISK_IO_SIZE, DISK_IO_SECONDS };

/* The names are QEMU's where it has them, in its spellings and in that of libvirt and others. */
static const struct {
    const char *name;
    enum disk_io_kind kind;
    size_t offset;
} disk_io[] = {
#define DISK_IO(name, kind, member)                                                                \
    {                                                                                              \
        name, kind, offsetof(struct config_disk, member)                                           \
    }
    DISK_IO("cache", DISK_IO_WORD, cache),
    DISK_IO("aio", DISK_IO_WORD, aio),
    DISK_IO("discard", DISK_IO_WORD, discard),
    DISK_IO("detect-zeroes", DISK_IO_WORD, detect_zeroes),
    DISK_IO("detect_zeroes", DISK_IO_WORD, detect_zeroes),
    DISK_IO("key-file", DISK_IO_WORD, key_file),
    DISK_IO("on-io-error", DISK_IO_WORD, on_io_error),
    DISK_IO("iops", DISK_IO_NUMBER, iops),
    DISK_IO("iops_rd", DISK_IO_NUMBER, iops_rd),
    DISK_IO("iops_wr", DISK_IO_NUMBER, iops_wr),
    DISK_IO("bps", DISK_IO_SIZE, bps),
    DISK_IO("bps_rd", DISK_IO_SIZE, bps_rd),
    DISK_IO("bps_wr", DISK_IO_SIZE, bps_wr),
    DISK_IO("throttling.iops-total", DISK_IO_NUMBER, iops),
    DISK_IO("throttling.iops-read", DISK_IO_NUMBER, iops_rd),
    DISK_IO("throttling.iops-write", DISK_IO_NUMBER, iops_wr),
    DISK_IO("throttling.bps-total", DISK_IO_SIZE, bps),
    DISK_IO("throttling.bps-read", DISK_IO_SIZE, bps_rd),
    DISK_IO("throttling.bps-write", DISK_IO_SIZE, bps_wr),
    DISK_IO("burst", DISK_IO_SECONDS, burst_ms),
    DISK_IO("timeout", DISK_IO_SECONDS, timeout_ms),
};

/* Words of other programs for ours. */
static const char *disk_io_word(const char *name, const char *value)
{
    if (!strcmp(name, "aio") && !strcmp(value, "io_uring"))
        return "uring";
    if (!strcmp(name, "discard") && (!strcmp(value, "on") || !strcmp(value, "off")))
        return value[1] == 'n' ? "unmap" : "ignore";
    if (!strcmp(name, "on-io-error") && !strcmp(value, "stop"))
        return "pause";
    return value;
}

static int disk_io_set_word(char **where, const char *word, struct err *e)
{
    char *copy = strdup(word);

    if (!copy)
        return err_set(e, ENOMEM, "out of memory");
    free(*where);
    *where = copy;
    return 0;
}

static int disk_io_set_number(uint64_t *where, const char *value)
{
    char *end;

    if (*value < '0' || *value > '9')
        return -EINVAL;
    errno = 0;
    *where = strtoul(value, &end, 10);
    return errno || *end || *where > INT64_MAX ? -EINVAL : 0;
}

static int disk_io_set_seconds(uint64_t *where, const char *value)
{
    char *end;
    double s = strtod(value, &end);

    if (*value < '0' || *value > '9' || *end || !(s >= 0.001 && s <= 1e6))
        return -EINVAL;
    *where = (uint64_t)(s * 1000);
    return 0;
}

static int disk_io_set(struct config_disk *d, size_t i, const char *value, struct err *e)
{
    void *where = (char *)d + disk_io[i].offset;

    switch (disk_io[i].kind) {
    case DISK_IO_WORD:
        return disk_io_set_word(where, disk_io_word(disk_io[i].name, value), e);
    case DISK_IO_NUMBER:
        if (!disk_io_set_number(where, value))
            return 0;
        return err_set(e, EINVAL, "--disk: %s=%s is not a number of requests a second",
                       disk_io[i].name, value);
    case DISK_IO_SIZE:
        if (!util_parse_size(value, where))
            return 0;
        return err_set(e, EINVAL,
                       "--disk: %s=%s is not a number of bytes a second; write it like 500K or 20M",
                       disk_io[i].name, value);
    case DISK_IO_SECONDS:
        if (!disk_io_set_seconds(where, value))
            return 0;
        return err_set(e, EINVAL, "--disk: %s=%s is not a time in seconds, such as 0.5 or 10",
                       disk_io[i].name, value);
    }
    return -EINVAL;
}

int options_disk_io(struct config_disk *d, const char *item, struct err *e)
{
    const char *value = strchr(item, '=');

    if (!value)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(disk_io); i++) {
        int r;

        if (strlen(disk_io[i].name) != (size_t)(value - item) ||
            strncmp(item, disk_io[i].name, (size_t)(value - item)))
            continue;
        r = disk_io_set(d, i, value + 1, e);
        return r ? r : 1;
    }
    return 0;
}
