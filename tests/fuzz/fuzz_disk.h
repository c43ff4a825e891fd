/*
 * fuzz_disk.h: disk images of any bytes. The input is a file in pieces, so that images with holes of many
 * MiB are short: its size in sectors (u32), then pieces of offset (u32), length (u16) and bytes.
 */
#ifndef TESTS_FUZZ_FUZZ_DISK_H
#define TESTS_FUZZ_FUZZ_DISK_H

#include "fuzz.h"

/* A memfd with the file. */
int fuzz_disk_file(const uint8_t *data, size_t len);
/* Puts the checksum into what is at off, if it can be read: n bytes, the checksum's place, its function. */
void fuzz_disk_sum(int fd, uint64_t off, size_t n, size_t at,
                   void (*sum)(uint8_t *p, size_t n, size_t at));
/* Opens the image, asks what is where, reads here and there. It opens or is refused with a sentence. */
void fuzz_disk_use(int fd, const char *format);

#endif
