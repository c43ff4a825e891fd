/*
 * log.h: the process's log: one line an event on stderr (or the VM's log file), with time and area.
 * Any thread. The logger is the one place that keeps file-scope state.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/util.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Where and how much; fd stays the caller's. Default: stderr, LOG_WARN. */
void log_setup(int fd, enum log_level level);
/* And into this file, which outlives the logging or is taken back with NULL. No other thread logs yet, or any more. */
struct tail_file;
void log_keep(struct tail_file *f, enum log_level level);
bool log_enabled(enum log_level level);
bool log_on_stderr(void); /* what is logged is also seen there; async-signal-safe */
void log_write(enum log_level level, const char *area, const char *fmt, ...) printf_like(3, 4);

#define log_error(area, ...) log_write(LOG_ERROR, area, __VA_ARGS__)
#define log_warn(area, ...)  log_write(LOG_WARN, area, __VA_ARGS__)
#define log_info(area, ...)  log_write(LOG_INFO, area, __VA_ARGS__)
#define log_debug(area, ...)                                                                       \
    do {                                                                                           \
        if (log_enabled(LOG_DEBUG))                                                                \
            log_write(LOG_DEBUG, area, __VA_ARGS__);                                               \
    } while (0)

/*
 * A guest can make us say the same thing a million times: embed one in whatever it can provoke.
 * Lets through a burst of 10 a minute, then counts what it swallowed.
 */
struct log_limit {
    uint64_t window_start_ns;
    unsigned in_window, swallowed;
};
bool log_limit_pass(struct log_limit *l);
#define log_limited(l, level, area, ...)                                                           \
    do {                                                                                           \
        if (log_limit_pass(l))                                                                     \
            log_write(level, area, __VA_ARGS__);                                                   \
    } while (0)

#endif
