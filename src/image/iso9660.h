/*
 * iso9660.h: a small CD image: a few files in one folder, by names of any case (Rock Ridge, and Joliet for
 * systems without). No state, any thread.
 */
#ifndef IMAGE_ISO9660_H
#define IMAGE_ISO9660_H

#include "base/err.h"

enum { ISO9660_FILES_MAX = 8, ISO9660_NAME_MAX = 32, ISO9660_FILE_MAX = 64 * MIB };

struct iso9660_file {
    const char *
        name; /* up to ISO9660_NAME_MAX letters, digits and - . _ ; no two alike in the first eight */
    const void *data;
    size_t len;
};

/* malloc'd, *len bytes; NULL with a sentence. label: up to 16 characters. */
uint8_t *iso9660_make(const char *label, const struct iso9660_file *files, size_t n, size_t *len,
                      struct err *e);

#endif
