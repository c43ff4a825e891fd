/*
 * pflash.h: a NOR flash chip (Intel command set): where UEFI keeps its variables.
 *
 * It reads as memory until a command is written; then, until it is sent back, as registers. The machine
 * maps the array as ROM in the first case and nothing in the second (vm_memory_changed() tells of it).
 */
#ifndef HW_PFLASH_H
#define HW_PFLASH_H

#include "bus/bus.h"
#include "mem/ram.h"

enum { PFLASH_BLOCK = 4096 };

struct pflash;

/*
 * array: its contents, whole blocks, at its place, readonly; the machine's, outlives the chip. fd: a file
 * that follows them, owned by the chip once this succeeds; -1: none. What the guest has finished writing is
 * in the file, in the order in which it was written, when the guest can know it.
 */
struct pflash *pflash_create(struct vm *vm, struct ram_region *array, int fd, struct err *e);
/* Is it to be mapped as memory? vCPUs stopped. */
bool pflash_reads_array(const struct pflash *p);

/*
 * Opens the file at path for a chip of len bytes, alone; one that does not exist is made with these
 * contents, whole or not at all; one that does gives its own. The descriptor, or -errno with a sentence.
 */
must_check int pflash_file_open(const char *path, uint8_t *contents, uint64_t len, struct err *e);

#endif
