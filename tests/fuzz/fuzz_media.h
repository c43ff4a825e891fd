/*
 * fuzz_media.h: disks in memory, and drives whose medium is changed between a guest's accesses.
 */
#ifndef TESTS_FUZZ_FUZZ_MEDIA_H
#define TESTS_FUZZ_FUZZ_MEDIA_H

#include "fuzz.h"

#include "block/drive.h"
#include "bus/device.h"

struct blk *fuzz_media_open(struct vm *vm, uint64_t size, bool readonly);
/* A drive that has such a medium in it. */
struct blk *fuzz_media_drive(struct vm *vm, uint64_t size, bool readonly);
/* That medium again, if there is another one or none. */
void fuzz_media_restore(struct vm *vm, struct blk *drive, uint64_t size, bool readonly);
/* Somebody changes the medium, takes it out, or asks for it. */
void fuzz_media_op(struct vm *vm, struct blk *drive, struct fuzz_input *in);

#endif
