/*
 * eeprom93c46.h: a 93C46 serial EEPROM: 64 words of 16 bits behind three wires (Microwire), as network cards
 * keep their address in. Part of a device: its lock guards it. What is written lasts until the next reset.
 */
#ifndef HW_EEPROM93C46_H
#define HW_EEPROM93C46_H

#include "state/state.h"

enum { EEPROM93C46_WORDS = 64 };
struct eeprom93c46 {
    uint16_t word[EEPROM93C46_WORDS];
    bool cs, sk; /* the wires as they were */
    bool out;    /* level of the data output */
    bool writable;
    uint16_t shift; /* bits of the command, then of the data, that have come in */
    uint8_t bits;   /* how many, from the start bit on */
    uint8_t addr;
    uint8_t op;      /* opcode, once it is complete */
    uint8_t read_at; /* next bit of the word at addr that goes out, 15 to 0 */
};

/* The levels of chip select, clock and data input; e->out is the answer. */
void eeprom93c46_wires(struct eeprom93c46 *e, bool cs, bool sk, bool di);
void eeprom93c46_state(struct eeprom93c46 *e, struct state *s);

#endif
