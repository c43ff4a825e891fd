#include "image/disk_io.h"

#include <errno.h>
#include <semaphore.h>

struct disk_io {
    struct blk_req r;
    sem_t ended;
    int err;
};

static void disk_io_done(struct blk_req *r, int err)
{
    struct disk_io *io = container_of(r, struct disk_io, r);

    io->err = err;
    sem_post(&io->ended);
}

int disk_io_wait(struct blk *b, struct blk_req *r)
{
    struct disk_io io = { .r = *r };

    io.r.done = disk_io_done;
    sem_init(&io.ended, 0, 0);
    blk_submit(b, &io.r);
    while (sem_wait(&io.ended) && errno == EINTR)
        ;
    sem_destroy(&io.ended);
    return io.err;
}
