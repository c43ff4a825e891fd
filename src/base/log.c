#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/tail_file.h"

enum { LOG_BURST = 10 };
#define LOG_WINDOW_NS (60ull * 1000000000ull)

static atomic_int log_fd = STDERR_FILENO;
static atomic_int log_max = LOG_WARN;
static struct tail_file *log_kept; /* NULL: nowhere else */
static atomic_int log_kept_max = -1;

void log_setup(int fd, enum log_level level)
{
    atomic_store(&log_fd, fd);
    atomic_store(&log_max, (int)level);
}

void log_keep(struct tail_file *f, enum log_level level)
{
    log_kept = f;
    atomic_store(&log_kept_max, f ? (int)level : -1);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_max, memory_order_relaxed) ||
           (int)level <= atomic_load_explicit(&log_kept_max, memory_order_relaxed);
}

bool log_on_stderr(void)
{
    return atomic_load(&log_fd) == STDERR_FILENO;
}

/* One write() a line, so that lines of several threads do not mix. */
void log_write(enum log_level level, const char *area, const char *fmt, ...)
{
    static const char *const names[] = { "error", "warning", "info", "debug" };
    char line[1024];
    struct timespec now;
    struct tm tm;
    va_list ap;
    size_t len;

    if (!log_enabled(level))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    len = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
    len += (size_t)snprintf(line + len, sizeof(line) - len,
                            ".%03ldZ %s %s: ", now.tv_nsec / 1000000, names[level], area);
    va_start(ap, fmt);
    vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
    va_end(ap);
    len = strlen(line);
    line[len++] = '\n';
    /* What fails here has nowhere left to say so. */
    if ((int)level <= atomic_load(&log_kept_max))
        (void)!tail_file_write(log_kept, line, len);
    if ((int)level <= atomic_load(&log_max))
        (void)!util_write_all(atomic_load(&log_fd), line, len);
}

/* Racing callers may let one line more or less through; that is all that can happen. */
bool log_limit_pass(struct log_limit *l)
{
    uint64_t now = util_monotonic_ns();

    if (now - l->window_start_ns > LOG_WINDOW_NS) {
        l->window_start_ns = now;
        l->in_window = 0;
    }
    if (l->in_window < LOG_BURST) {
        l->in_window++;
        return true;
    }
    l->swallowed++;
    return false;
}
