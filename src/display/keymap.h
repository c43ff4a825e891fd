/*
 * keymap.h: keys as viewers name them to what a PS/2 keyboard sends. A key is its number in scan code set 1,
 * with bit 7 for the prefix e0, as in QEMU's extended key events. No state, any thread.
 */
#ifndef DISPLAY_KEYMAP_H
#define DISPLAY_KEYMAP_H

#include "base/util.h"

enum { KEYMAP_CODE_MAX = 8, KEYMAP_KEYS = 256 };

/* The key of a US keyboard that bears an X11 keysym, whatever its shift state; 0: none does. */
uint8_t keymap_key(uint32_t keysym);
/* Does a character need shift on it? */
bool keymap_shifted(uint32_t keysym);
/* Its make or break code in set 2; the number of bytes, 0: no such key, or nothing is sent. */
unsigned keymap_set2(uint8_t key, bool down, uint8_t code[KEYMAP_CODE_MAX]);

#endif
