/*
 * e1000_regs.c: the registers that only keep what is written, or that the card alone changes. What a write
 * does besides is in e1000.c.
 */
#include "hw/e1000_impl.h"

const struct e1000_range e1000_ranges[] = {
    { E1000_CTRL, 1, 0x7bffffff },
    { E1000_STATUS, 1, 0 },
    { E1000_EECD, 1, 0 },
    { E1000_EERD, 1, 0 },
    { E1000_CTRL_EXT, 1, 0xffffffff },
    { E1000_MDIC, 1, 0 },
    { E1000_FCAL, 1, 0xffffffff },
    { E1000_FCAH, 1, 0xffff },
    { E1000_FCT, 1, 0xffff },
    { E1000_VET, 1, 0xffff },
    { E1000_ICR, 1, 0 },
    { E1000_ITR, 1, 0xffff },
    { E1000_IMS, 1, 0 },
    { E1000_RCTL, 1, 0x07ffffff },
    { 0x0170, 1, 0xffff },     /* FCTTV */
    { 0x0178, 1, 0xffffffff }, /* TXCW */
    { E1000_TCTL, 1, 0x07ffffff },
    { 0x0410, 1, 0x3fffffff }, /* TIPG */
    { 0x0458, 1, 0xffff },     /* AIFS */
    { E1000_LEDCTL, 1, 0xffffffff },
    { E1000_PBA, 1, 0xffff },
    { 0x2160, 1, 0xffffffff }, /* FCRTL */
    { 0x2168, 1, 0xffff },     /* FCRTH */
    { 0x2410, 1, 0x1fff },     /* RDFH, RDFT, RDFHS, RDFTS, RDFPC */
    { 0x2418, 1, 0x1fff },
    { 0x2420, 1, 0x1fff },
    { 0x2428, 1, 0x1fff },
    { 0x2430, 1, 0x1fff },
    { E1000_RDBAL, 1, 0xfffffff0 },
    { E1000_RDBAH, 1, 0xffffffff },
    { E1000_RDLEN, 1, 0xfff80 },
    { E1000_RDH, 1, 0xffff },
    { E1000_RDT, 1, 0xffff },
    { 0x2820, 1, 0xffff },     /* RDTR */
    { 0x2828, 1, 0xffffffff }, /* RXDCTL */
    { 0x282c, 1, 0xffff },     /* RADV */
    { 0x2c00, 1, 0xfff },      /* RSRPD */
    { 0x3000, 1, 0xffffffff }, /* TXDMAC */
    { 0x3410, 1, 0x1fff },     /* TDFH, TDFT, TDFHS, TDFTS, TDFPC */
    { 0x3418, 1, 0x1fff },
    { 0x3420, 1, 0x1fff },
    { 0x3428, 1, 0x1fff },
    { 0x3430, 1, 0x1fff },
    { E1000_TDBAL, 1, 0xfffffff0 },
    { E1000_TDBAH, 1, 0xffffffff },
    { E1000_TDLEN, 1, 0xfff80 },
    { E1000_TDH, 1, 0xffff },
    { E1000_TDT, 1, 0xffff },
    { 0x3820, 1, 0xffff },     /* TIDV */
    { 0x3828, 1, 0xffffffff }, /* TXDCTL */
    { 0x382c, 1, 0xffff },     /* TADV */
    { 0x3830, 1, 0xffffffff }, /* TSPMT */
    { E1000_STATS, (E1000_STATS_END - E1000_STATS) / 4, 0 },
    { E1000_RXCSUM, 1, 0x7ff },
    { E1000_MTA, 128, 0xffffffff },
    { E1000_RA, 2 * E1000_RA_ENTRIES, 0xffffffff },
    { E1000_VFTA, 128, 0xffffffff },
    { 0x5800, 1, 0xffffffff }, /* WUC */
    { 0x5808, 1, 0xffffffff }, /* WUFC */
    { 0x5820, 1, 0xffffffff }, /* MANC */
    { 0x5838, 1, 0xffffffff }, /* IPAV */
    { 0x5840, 8, 0xffffffff }, /* IP4AT */
    { 0x5880, 4, 0xffffffff }, /* IP6AT */
    { 0x5f00, 8, 0xffffffff }, /* FFLT */
};
const unsigned e1000_n_ranges = ARRAY_SIZE(e1000_ranges);

const struct e1000_range *e1000_range(unsigned off)
{
    unsigned lo = 0, hi = e1000_n_ranges;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const struct e1000_range *r = &e1000_ranges[mid];

        if (off < r->off)
            hi = mid;
        else if (off >= r->off + 4u * r->count)
            lo = mid + 1;
        else
            return r;
    }
    return NULL;
}

unsigned e1000_unalias(unsigned off)
{
    static const struct {
        uint16_t from, len, to;
    } alias[] = {
        { 0x0004, 0x004, E1000_CTRL }, { 0x0040, 0x080, E1000_RA },
        { 0x0108, 0x004, 0x2820 },     { 0x0110, 0x00c, E1000_RDBAL },
        { 0x0120, 0x004, E1000_RDH },  { 0x0128, 0x004, E1000_RDT },
        { 0x0200, 0x200, E1000_MTA },  { 0x0420, 0x00c, E1000_TDBAL },
        { 0x0430, 0x004, E1000_TDH },  { 0x0438, 0x004, E1000_TDT },
        { 0x0440, 0x004, 0x3820 },     { 0x0600, 0x200, E1000_VFTA },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(alias); i++)
        if (off >= alias[i].from && off < alias[i].from + alias[i].len)
            return off - alias[i].from + alias[i].to;
    return off;
}
