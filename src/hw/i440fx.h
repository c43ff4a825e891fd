/*
 * i440fx.h: the host bridge and memory controller of a Pentium II PC (8086:1237): who answers between
 * 640 KiB and 1 MiB.
 */
#ifndef HW_I440FX_H
#define HW_I440FX_H

#include "bus/pci.h"
#include "mem/ram.h"

/* Segments of shadow RAM: 12 of 16 KiB from c0000, the last of 64 KiB at f0000. */
enum { I440FX_SEGMENTS = 13 };
#define I440FX_SHADOW     0xc0000ull
#define I440FX_SHADOW_LEN 0x40000ull
#define I440FX_SMRAM      0xa0000ull
#define I440FX_SMRAM_LEN  0x20000ull

struct i440fx;

/*
 * At devfn of the bus, owned by the vm; claims the shadow RAM's addresses for what is not mapped there.
 * shadow: the RAM behind them, one region a segment (visible or not), kept by the machine; NULL: there is
 * none. Changes are told by vm_memory_changed(). NULL with a sentence.
 */
struct i440fx *i440fx_create(struct vm *vm, struct pci_bus *bus, unsigned devfn,
                             struct ram_region *shadow, struct err *e);
uint64_t i440fx_segment_at(unsigned segment); /* its gpa */
uint64_t i440fx_segment_len(unsigned segment);

/* For the machine, vCPUs stopped. Do the processors' reads, and writes, of the segment go to RAM? */
bool i440fx_reads_ram(const struct i440fx *h, unsigned segment);
bool i440fx_writes_ram(const struct i440fx *h, unsigned segment);
/* Is the RAM behind the VGA window open to everybody? */
bool i440fx_smram_open(const struct i440fx *h);
/* What firmware would do for direct boot, vCPUs stopped: all shadow RAM is RAM. */
void i440fx_assign(struct i440fx *h);

#endif
