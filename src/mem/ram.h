/*
 * ram.h: guest RAM as regions of anonymous memory, in huge pages where the host gives them.
 * Created before the vCPUs start, destroyed after they ended; contents are the guest's, any thread.
 */
#ifndef MEM_RAM_H
#define MEM_RAM_H

#include "base/err.h"

struct ram_region {
    uint64_t gpa, len; /* page aligned */
    uint8_t *hva;      /* len bytes; guard pages on both sides */
    bool readonly;   /* ROM: guest writes are dropped (kvm: reach exit_mmio) */
    char name[16];   /* "low", "high", "bios": names the snapshot section */
    uint64_t *dirty; /* bit a page, while logging; NULL otherwise */
    uint64_t *code;  /* bit a page: an accelerator has translations of it (bt); NULL under kvm */
};

/* Allocates len bytes, touched as needed. 0, or -errno with a sentence (a size the host cannot give). */
must_check int ram_alloc(struct ram_region *r, const char *name, uint64_t gpa, uint64_t len,
                         struct err *e);
void ram_free(struct ram_region *r);

#endif
