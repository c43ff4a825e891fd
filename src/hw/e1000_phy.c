/*
 * e1000_phy.c: the 82540EM's EEPROM, by its four wires (EECD) and by its reader (EERD), and its PHY, an 88E1011
 * that has always negotiated a gigabit in full duplex.
 */
#include "hw/e1000_impl.h"

#include <string.h>

#include "base/endian.h"

enum {
    EECD_SK = 0x001,
    EECD_CS = 0x002,
    EECD_DI = 0x004,
    EECD_DO = 0x008,
    EECD_FWE = 0x030,
    EECD_REQUEST = 0x040,
    EECD_GRANT = 0x080,
    EECD_PRESENT = 0x100,
};
enum { EERD_START = 0x01, EERD_DONE = 0x10 };
enum { EEPROM_CHECKSUM_WORD = 63, EEPROM_SUM = 0xbaba };
enum { PHY_ADDRESS = 1, PHY_STATUS = 1, PHY_ADVERTISE = 4, PHY_SPECIFIC_CTRL = 16 };
enum { PHY_CTRL_RESTART = 0x0200, PHY_CTRL_RESET = 0x8000 };
#define MDIC_READY BIT(28)
#define MDIC_INTR  BIT(29)
#define MDIC_ERROR BIT(30)

/* Datasheet names: the words that drivers and option ROMs look at; the others are erased. */
void e1000_eeprom_init(struct e1000 *n)
{
    static const struct {
        uint8_t at;
        uint16_t val;
    } words[] = {
        { 0x03, 0x0000 }, /* compatibility: a client adapter */
        { 0x04, 0xffff }, /* LEDs as they come */
        { 0x0a, 0x640b }, /* init control 1: load what follows into PCI configuration space */
        { 0x0b, 0x001e }, /* subsystem */
        { 0x0c, 0x8086 }, { 0x0d, 0x100e }, /* device */
        { 0x0e, 0x8086 }, { 0x0f, 0x3040 }, /* init control 2 */
        { 0x20, 0x0000 },                   /* software pins */
        { 0x21, 0x7863 },                   /* flash */
        { 0x23, 0x2808 },                   /* management */
        { 0x24, 0x0000 },                   /* init control 3: no wake-up */
    };
    uint16_t sum = 0;

    memset(n->eeprom.word, 0xff, sizeof(n->eeprom.word));
    for (unsigned i = 0; i < 3; i++)
        n->eeprom.word[i] = ld_le16(n->mac + 2 * i);
    for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
        n->eeprom.word[words[i].at] = words[i].val;
    for (unsigned i = 0; i < EEPROM_CHECKSUM_WORD; i++)
        sum = (uint16_t)(sum + n->eeprom.word[i]);
    n->eeprom.word[EEPROM_CHECKSUM_WORD] = (uint16_t)(EEPROM_SUM - sum);
}

void e1000_eecd_write(struct e1000 *n, uint32_t val)
{
    *e1000_reg(n, E1000_EECD) = val & (EECD_SK | EECD_CS | EECD_DI | EECD_FWE | EECD_REQUEST);
    eeprom93c46_wires(&n->eeprom, val & EECD_CS, val & EECD_SK, val & EECD_DI);
}

uint32_t e1000_eecd_read(struct e1000 *n)
{
    uint32_t val = *e1000_reg(n, E1000_EECD) | EECD_PRESENT;

    if (val & EECD_REQUEST)
        val |= EECD_GRANT;
    return n->eeprom.out ? val | EECD_DO : val;
}

void e1000_eerd_write(struct e1000 *n, uint32_t val)
{
    unsigned addr = val >> 8 & 0xff;
    uint32_t word = addr < EEPROM93C46_WORDS ? n->eeprom.word[addr] : 0xffff;

    *e1000_reg(n, E1000_EERD) = val & EERD_START ? word << 16 | addr << 8 | EERD_DONE : 0;
}

/* --- PHY --- */

void e1000_phy_reset(struct e1000 *n)
{
    static const uint16_t values[E1000_PHY_REGS] = {
        [E1000_PHY_CTRL] = 0x1140,
        [PHY_STATUS] = 0x796d, /* negotiated, link up */
        [2] = 0x0141,          /* 88E1011 */
        [3] = 0x0c20,
        [PHY_ADVERTISE] = 0x0de1,
        [5] = 0xcde1, /* the partner can do everything */
        [6] = 0x000f,
        [9] = 0x0e00,
        [10] = 0x3c00,
        [15] = 0x3000,
        [PHY_SPECIFIC_CTRL] = 0x0360,
        [17] = 0xac48, /* 1000 Mbit/s, full duplex, resolved, link */
        [20] = 0x0d60,
    };

    memcpy(n->phy, values, sizeof(n->phy));
}

static void e1000_phy_write(struct e1000 *n, unsigned reg, uint16_t val)
{
    static const uint16_t writable[E1000_PHY_REGS] = {
        [E1000_PHY_CTRL] = 0x7dff,
        [PHY_ADVERTISE] = 0xffff,
        [7] = 0xffff,
        [9] = 0xffff,
        [PHY_SPECIFIC_CTRL] = 0xffff,
        [18] = 0xffff,
        [20] = 0xffff,
        [24] = 0xffff,
        [29] = 0xffff,
        [30] = 0xffff,
    };

    if (reg == E1000_PHY_CTRL && val & PHY_CTRL_RESET) {
        e1000_phy_reset(n);
        return;
    }
    n->phy[reg] = (uint16_t)((n->phy[reg] & ~writable[reg]) | (val & writable[reg]));
    if (reg == E1000_PHY_CTRL && val & PHY_CTRL_RESTART)
        e1000_raise(n, E1000_ICR_LSC); /* negotiated again already */
}

void e1000_mdic_write(struct e1000 *n, uint32_t val)
{
    unsigned reg = val >> 16 & 31, phy = val >> 21 & 31, op = val >> 26 & 3;
    uint32_t result = val & ~(MDIC_READY | MDIC_ERROR);

    if (phy != PHY_ADDRESS)
        result |= MDIC_ERROR;
    else if (op == 2)
        result = (result & 0xffff0000) | n->phy[reg];
    else if (op == 1)
        e1000_phy_write(n, reg, (uint16_t)val);
    else
        result |= MDIC_ERROR;
    *e1000_reg(n, E1000_MDIC) = result | MDIC_READY;
    if (val & MDIC_INTR)
        e1000_raise(n, E1000_ICR_MDAC);
}
