/*
 * bt_libc.h: included first into every file of accel/bt (meson.build). The guest's FPU state is live in the
 * host's vector registers while these files run, and the C library's block functions use such registers:
 * calls of them, also those that the compiler makes on its own, go to bt_libc.c instead.
 *
 * Any other library function must be preceded by bt_fpu_store().
 */
#ifndef ACCEL_BT_BT_LIBC_H
#define ACCEL_BT_BT_LIBC_H

#include <stddef.h>

__asm__("memcpy = bt_memcpy\n\t"
        "memmove = bt_memmove\n\t"
        "memset = bt_memset\n\t"
        "memcmp = bt_memcmp");

/* The four functions of string.h, with general registers only. */
void *bt_memcpy(void *to, const void *from, size_t n);
void *bt_memmove(void *to, const void *from, size_t n);
void *bt_memset(void *to, int value, size_t n);
int bt_memcmp(const void *a, const void *b, size_t n);

#endif
