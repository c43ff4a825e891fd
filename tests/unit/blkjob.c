#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "blkjob.h"

static void blkjob_done(struct blk_req *r, int err)
{
    struct blkjob *job = container_of(r, struct blkjob, req);

    job->n_done++;
    job->err = err;
}

void blkjob_start(struct blk *b, struct blkjob *job, enum blk_op op, uint64_t off, void *buf,
                  uint64_t len, unsigned flags)
{
    *job = (struct blkjob){ .req = { .op = op, .off = off, .len = len, .flags = flags } };
    job->req.done = blkjob_done;
    if (buf) {
        uint64_t first = len / 3, second = len / 2 - first;

        job->iov[0] = (struct iovec){ buf, first };
        job->iov[1] = (struct iovec){ (char *)buf + first, second };
        job->iov[2] = (struct iovec){ (char *)buf + first + second, len - first - second };
        job->req.iov = job->iov;
        job->req.niov = 3;
    }
    blk_submit(b, &job->req);
    assert_int_equal(job->n_done, 0); /* never inside submit */
}

void blkjob_wait(struct blk *b, const struct blkjob *job)
{
    while (!job->n_done)
        loop_poll(b->loop, 1000);
    assert_int_equal(job->n_done, 1);
}

int blkjob_run(struct blk *b, enum blk_op op, uint64_t off, void *buf, uint64_t len, unsigned flags)
{
    struct blkjob job;

    blkjob_start(b, &job, op, off, buf, len, flags);
    blkjob_wait(b, &job);
    assert_int_equal(atomic_load(&b->in_flight), 0);
    return job.err;
}

void blkjob_expect(struct blk *b, uint64_t off, int byte, size_t len)
{
    uint8_t *buf = malloc(len);

    assert_non_null(buf);
    assert_int_equal(blkjob_run(b, BLK_READ, off, buf, len, 0), 0);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(buf[i], byte);
    free(buf);
}
