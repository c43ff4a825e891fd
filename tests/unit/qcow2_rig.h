/*
 * qcow2_rig.h: what the tests of qcow2 images share: a directory with an image and its base, random requests
 * against a model in memory, and judges. With cmocka's headers before it.
 */
#ifndef UNIT_QCOW2_RIG_H
#define UNIT_QCOW2_RIG_H

#include "block/block.h"

enum { DISK = 6 * MIB + 512 * 37 };

struct fixture {
    char dir[64], path[96], base[96];
};

int rig_set_up(void **ctx);
int rig_tear_down(void **ctx);
uint64_t rig_rnd(uint64_t *seed);
void rig_create(struct fixture *f, uint64_t size, const char *const *options,
                const char *backing); /* or fails the test, as all of these */
struct blk *rig_open_disk(struct fixture *f);
/* A file of random bytes and holes, and the model of it. */
void rig_make_base(struct fixture *f, uint8_t *model, uint64_t size, uint64_t seed);
/* Random requests, several at a time, never two at one place; flags: for some of the writes,
 * BLK_F_ANYWHERE for everything. */
void rig_torture(struct blk *b, uint8_t *model, uint64_t seed, int rounds, unsigned write_flags);
void rig_check_all(struct blk *b, const uint8_t *model); /* the disk is what the model says */
void rig_self_check(struct blk *b); /* no corruption and no leaks, by our check */
void rig_judge(struct fixture *f);  /* nor by qemu-img's */
void rig_snap(struct blk *b, enum blk_snap what, const char *tag);
void rig_reopen(struct fixture *f, struct blk **b, const uint8_t *model); /* and judges */
int rig_run_command(const char *format, const char *path); /* with a %s for path; its exit status */

#endif
