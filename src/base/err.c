#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list ap;

    BUG_ON(code <= 0);
    if (!e || e->code)
        return -code;
    e->code = code;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    return -code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    char old[sizeof(e->msg)];
    va_list ap;
    int n;

    if (!e)
        return -EIO;
    BUG_ON(e->code <= 0);
    memcpy(old, e->msg, sizeof(old));
    va_start(ap, fmt);
    n = vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n + 2 >= sizeof(e->msg))
        return -e->code; /* a prefix that fills it: nothing fits behind */
    memcpy(e->msg + n, ": ", 2);
    n += 2;
    memcpy(e->msg + n, old, sizeof(e->msg) - (size_t)n);
    e->msg[sizeof(e->msg) - 1] = '\0'; /* cut, if both together are too long */
    return -e->code;
}

void *err_oom(struct err *e)
{
    err_set(e, ENOMEM, "out of memory");
    return NULL;
}
