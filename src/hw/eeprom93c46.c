/*
 * eeprom93c46.c: 93C46 serial EEPROM (Microchip DS21749, 16-bit organisation). A command is a start bit, two
 * bits of opcode and six of address, each taken at a rising clock; a read goes on with the next word. Not
 * modelled: the time that a write takes.
 */
#include "hw/eeprom93c46.h"

enum { EEPROM_COMMAND_BITS = 9, EEPROM_DATA_BITS = 16 };
enum { EEPROM_SPECIAL, EEPROM_WRITE, EEPROM_READ, EEPROM_ERASE };
enum {
    EEPROM_WRITE_OFF,
    EEPROM_WRITE_ALL,
    EEPROM_ERASE_ALL,
    EEPROM_WRITE_ON
}; /* address bits 5:4 */

static void eeprom93c46_fill(struct eeprom93c46 *e, uint16_t val)
{
    for (unsigned i = 0; e->writable && i < EEPROM93C46_WORDS; i++)
        e->word[i] = val;
}

static void eeprom93c46_set(struct eeprom93c46 *e, uint16_t val)
{
    if (e->writable)
        e->word[e->addr] = val;
}

static void eeprom93c46_command(struct eeprom93c46 *e)
{
    unsigned special = e->shift >> 4 & 3;

    e->op = (uint8_t)(e->shift >> 6 & 3);
    e->addr = (uint8_t)(e->shift & (EEPROM93C46_WORDS - 1));
    e->shift = 0;
    if (e->op == EEPROM_READ) {
        e->out = false; /* a zero comes before the data */
        e->read_at = EEPROM_DATA_BITS - 1;
    } else if (e->op == EEPROM_ERASE) {
        eeprom93c46_set(e, 0xffff);
    } else if (e->op == EEPROM_SPECIAL && special == EEPROM_ERASE_ALL) {
        eeprom93c46_fill(e, 0xffff);
    } else if (e->op == EEPROM_SPECIAL && special != EEPROM_WRITE_ALL) {
        e->writable = special == EEPROM_WRITE_ON;
    }
}

static void eeprom93c46_read_bit(struct eeprom93c46 *e)
{
    e->out = e->word[e->addr] >> e->read_at & 1;
    if (e->read_at--)
        return;
    e->read_at = EEPROM_DATA_BITS - 1;
    e->addr = (uint8_t)((e->addr + 1) % EEPROM93C46_WORDS);
}

static void eeprom93c46_write_bit(struct eeprom93c46 *e, bool di)
{
    e->shift = (uint16_t)(e->shift << 1 | di);
    if (++e->bits < EEPROM_COMMAND_BITS + EEPROM_DATA_BITS)
        return;
    if (e->op == EEPROM_WRITE)
        eeprom93c46_set(e, e->shift);
    else if (e->op == EEPROM_SPECIAL && e->addr >> 4 == EEPROM_WRITE_ALL)
        eeprom93c46_fill(e, e->shift);
    e->bits = 0;
    e->out = true; /* ready */
}

static void eeprom93c46_clock(struct eeprom93c46 *e, bool di)
{
    if (!e->bits && !di)
        return; /* no start bit yet */
    if (e->bits >= EEPROM_COMMAND_BITS) {
        if (e->op == EEPROM_READ)
            eeprom93c46_read_bit(e);
        else
            eeprom93c46_write_bit(e, di);
        return;
    }
    e->shift = (uint16_t)(e->shift << 1 | di);
    if (++e->bits == EEPROM_COMMAND_BITS)
        eeprom93c46_command(e);
}

void eeprom93c46_wires(struct eeprom93c46 *e, bool cs, bool sk, bool di)
{
    bool rising = sk && !e->sk;

    if (!cs || !e->cs) {
        e->bits = 0;
        e->shift = 0;
        e->out = true;
    }
    e->cs = cs;
    e->sk = sk;
    if (cs && rising)
        eeprom93c46_clock(e, di);
}

void eeprom93c46_state(struct eeprom93c46 *e, struct state *s)
{
    for (unsigned i = 0; i < EEPROM93C46_WORDS; i++)
        state_u16(s, &e->word[i]);
    state_bool(s, &e->cs);
    state_bool(s, &e->sk);
    state_bool(s, &e->out);
    state_bool(s, &e->writable);
    state_u16(s, &e->shift);
    state_u8(s, &e->bits);
    state_u8(s, &e->addr);
    state_u8(s, &e->op);
    state_u8(s, &e->read_at);
    state_require(s,
                  e->bits < EEPROM_COMMAND_BITS + EEPROM_DATA_BITS && e->addr < EEPROM93C46_WORDS &&
                      e->op <= EEPROM_ERASE && e->read_at < EEPROM_DATA_BITS,
                  "an impossible state of the EEPROM");
}
