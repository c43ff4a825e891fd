/*
 * symbols.h: names of a guest kernel's functions, from its ELF file or its System.map (/proc/kallsyms looks
 * the same). The file may be hostile. Constant once loaded: any thread.
 */
#ifndef BASE_SYMBOLS_H
#define BASE_SYMBOLS_H

#include "base/err.h"

struct symbols;

/* Owned by the caller. Refuses a file without symbols. */
must_check int symbols_load(struct symbols **out, const char *path, struct err *e);
void symbols_destroy(struct symbols *s);
/* The last function at or below addr and how far above it addr is; NULL: none, or s is NULL. */
const char *symbols_find(const struct symbols *s, uint64_t addr, uint64_t *off);

#endif
