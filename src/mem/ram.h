/*
 * ram.h: guest RAM as regions of anonymous memory, in huge pages where the host gives them.
 * Created before the vCPUs start, destroyed after they ended; contents are the guest's, any thread.
 *
 * A view is a region whose bytes are part of another's: what lies at one address may so be switched
 * (shadow RAM or ROM) while the RAM itself stays where it is.
 */
#ifndef MEM_RAM_H
#define MEM_RAM_H

#include "base/err.h"

struct ram_region {
    uint64_t gpa, len; /* page aligned */
    uint8_t *hva;      /* len bytes; guard pages on both sides */
    bool readonly;     /* guest writes go to the bus (exit_mmio), devices' fail */
    bool rom;          /* the contents come with the configuration: they are no state */
    bool view;         /* hva is another region's */
    bool moves;        /* gpa is a device's register (physmap_move()), no part of the VM's shape */
    bool hidden;       /* in the map, but something else answers there (physmap_show()) */
    char name[16];     /* "low", "high", "bios": names the snapshot section */
    uint64_t *dirty;   /* bit a page, while logging; NULL otherwise */
    uint64_t *code;    /* bit a page: an accelerator has translations of it (bt); NULL under kvm */
};

/* Allocates len bytes, touched as needed. 0, or -errno with a sentence (a size the host cannot give). */
must_check int ram_alloc(struct ram_region *r, const char *name, uint64_t gpa, uint64_t len,
                         struct err *e);
void ram_free(struct ram_region *r); /* a zeroed one, too */
/* Bytes [off, off + len) of `of` at gpa, page aligned; `of` must outlive it. Ends with ram_free(), too. */
void ram_view(struct ram_region *v, const struct ram_region *of, const char *name, uint64_t gpa,
              uint64_t off, uint64_t len);

#endif
