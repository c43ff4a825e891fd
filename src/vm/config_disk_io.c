/*
 * config_disk_io.c: what a user can say about how a disk is used: the words that there are.
 */
#include "vm/config.h"

#include <errno.h>
#include <string.h>

static const char *const cache_words[] = { "writeback", "writethrough", "none", "directsync",
                                           "unsafe" };
static const char *const aio_words[] = { "uring", "threads" };
static const char *const discard_words[] = { "unmap", "ignore" };
static const char *const detect_words[] = { "off", "on", "unmap" };
static const char *const error_words[] = { "enospc", "report", "pause", "ignore" };

static bool config_is_word(const char *word, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(word, words[i]))
            return true;
    return false;
}

int config_check_on_io_error(const char *word, struct err *e)
{
    if (!word || config_is_word(word, error_words, ARRAY_SIZE(error_words)))
        return 0;
    return err_set(
        e, EINVAL,
        "--on-io-error %s is not known; known: enospc (pause while there is no space, else "
        "report), report, pause, ignore",
        word);
}

static int config_check_limits(const struct config_disk *d, struct err *e)
{
    enum { BURST_MAX_MS = 3600 * 1000, TIMEOUT_MAX_MS = 24 * 3600 * 1000 };

    if ((d->iops && (d->iops_rd || d->iops_wr)) || (d->bps && (d->bps_rd || d->bps_wr)))
        return err_set(
            e, EINVAL,
            "disk %s: a limit on all and one on reads or writes exclude each other: leave "
            "one of them out",
            d->path);
    if (d->burst_ms > BURST_MAX_MS)
        return err_set(e, EINVAL, "disk %s: a burst of more than an hour is no limit", d->path);
    if (d->timeout_ms && strncmp(d->path, "nbd", 3) != 0)
        return err_set(e, EINVAL, "disk %s: timeout= is for disks on NBD servers: leave it out",
                       d->path);
    if (d->timeout_ms > TIMEOUT_MAX_MS)
        return err_set(e, EINVAL, "disk %s: timeout= is at most a day", d->path);
    return 0;
}

int config_check_disk_io(const struct config_disk *d, struct err *e)
{
    const struct {
        const char *option, *word, *known;
        const char *const *words;
        size_t n;
    } lists[] = {
        { "cache", d->cache, "writeback, writethrough, none, directsync, unsafe", cache_words,
          ARRAY_SIZE(cache_words) },
        { "aio", d->aio, "uring, threads", aio_words, ARRAY_SIZE(aio_words) },
        { "discard", d->discard, "unmap, ignore", discard_words, ARRAY_SIZE(discard_words) },
        { "detect-zeroes", d->detect_zeroes, "off, on, unmap", detect_words,
          ARRAY_SIZE(detect_words) },
        { "on-io-error", d->on_io_error, "enospc, report, pause, ignore", error_words,
          ARRAY_SIZE(error_words) },
    };

    for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
        if (lists[i].word && !config_is_word(lists[i].word, lists[i].words, lists[i].n))
            return err_set(e, EINVAL, "disk %s: %s=%s is not supported; known: %s", d->path,
                           lists[i].option, lists[i].word, lists[i].known);
    return config_check_limits(d, e);
}

void config_disk_io_fini(struct config_disk *d)
{
    free(d->cache);
    free(d->aio);
    free(d->discard);
    free(d->detect_zeroes);
    free(d->key_file);
    free(d->on_io_error);
}

bool config_disk_is_remote(const struct config_disk *d)
{
    static const char *const schemes[] = { "nbd://", "nbds://", "nbd+unix://", "nbds+unix://",
                                           "rbd:" };

    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++)
        if (!strncmp(d->path, schemes[i], strlen(schemes[i])))
            return true;
    return false;
}
