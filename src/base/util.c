#include "base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

_Noreturn void util_bug(const char *file, int line, const char *cond)
{
    fprintf(stderr, "BUG: %s:%d: %s\n", file, line, cond);
    abort();
}

void util_close(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}

static int util_size_shift(const char *suffix)
{
    static const char units[] = "KMGTPE";
    const char *u;

    if (!*suffix || !strcasecmp(suffix, "B"))
        return 0;
    u = strchr(units, suffix[0] & ~0x20); /* which finds the end of units for a space */
    if (!u || !*u || (suffix[1] && strcasecmp(suffix + 1, "B") && strcasecmp(suffix + 1, "iB")))
        return -1;
    return 10 * (int)(u - units + 1);
}

/* The digits after a point; no exponent, so that the result is below 1. */
static double util_fraction(char **at)
{
    double frac = 0, weight = 0.1;

    for (++*at; **at >= '0' && **at <= '9'; ++*at, weight /= 10)
        frac += (double)(**at - '0') * weight;
    return frac < 1 ? frac : 0;
}

int util_parse_size(const char *text, uint64_t *bytes)
{
    char *end;
    double frac = 0;
    uint64_t n;
    int shift;

    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    n = strtoull(text, &end, 10);
    if (errno)
        return -ERANGE;
    if (*end == '.')
        frac = util_fraction(&end);
    shift = util_size_shift(end);
    if (shift < 0 || (frac > 0 && shift == 0))
        return -EINVAL;
    if (shift && n >> (64 - shift))
        return -ERANGE;
    *bytes = (n << shift) + (uint64_t)(frac * (double)(1ull << shift));
    return 0;
}

int util_write_all(int fd, const void *buf, size_t len)
{
    const char *p = buf;

    while (len) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -EIO;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static uint64_t util_clock_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

uint64_t util_monotonic_ns(void)
{
    return util_clock_ns(CLOCK_MONOTONIC);
}

uint64_t util_realtime_ns(void)
{
    return util_clock_ns(CLOCK_REALTIME);
}
