/*
 * gdb_regs.h: the registers of a vCPU as GDB numbers and describes them: one table, 64-bit whatever mode
 * the vCPU is in. No state; any thread.
 */
#ifndef CONTROL_GDB_REGS_H
#define CONTROL_GDB_REGS_H

#include "x86/regs.h"

enum { GDB_REG_MAX = 16 }; /* bytes of the largest */

/* avx: with the upper halves of YMM0 to YMM15, which come last. */
unsigned gdb_regs_count(bool avx);
size_t gdb_reg_size(unsigned reg);
/* Reads the register into buf, little-endian; its size. */
size_t gdb_reg_get(const struct x86_state *s, unsigned reg, uint8_t buf[GDB_REG_MAX]);
/*
 * Writes it into *s, which may then be a state that no processor can be in (x86_state_invalid()). A
 * selector is written without its descriptor, but in real and virtual-8086 mode the base follows it.
 */
void gdb_reg_set(struct x86_state *s, unsigned reg, const uint8_t buf[GDB_REG_MAX]);
/* The target description (GDB manual, appendix G), malloc'd; NULL: out of memory. */
char *gdb_regs_xml(bool avx);

#endif
