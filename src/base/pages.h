/*
 * pages.h: large anonymous memory of this process: guest RAM, and the tables that generated code looks
 * things up in. Zeroed, touched as needed, in huge pages where the host gives them: such memory is accessed
 * all over, and what it costs is mostly the host's own TLB. Any thread.
 */
#ifndef BASE_PAGES_H
#define BASE_PAGES_H

#include "base/util.h"

/* len bytes with `guard` inaccessible bytes on both sides, both multiples of 4 KiB. NULL: errno says why. */
void *pages_alloc(size_t len, size_t guard);
/* What pages_alloc() gave for the same sizes, or NULL. */
void pages_free(void *p, size_t len, size_t guard);

#endif
