/*
 * ahci_port.c: a port of the SATA controller: registers (AHCI 1.3.1, 3.3), the guest's command list (4.2.2),
 * the area for what the drive sends (4.2.1):
 *
 *     0x00 DMA setup   0x20 PIO setup   0x40 register, device to host   0x58 set device bits
 *
 * Not modelled: DMA setup FISes, port multipliers, interrupts of the link (drives do not come and go).
 */
#include "hw/ahci_impl.h"

#include <string.h>

#include "base/endian.h"

enum { /* registers */
       PX_CLB = 0x00,
       PX_CLBU = 0x04,
       PX_FB = 0x08,
       PX_FBU = 0x0c,
       PX_IS = 0x10,
       PX_IE = 0x14,
       PX_CMD = 0x18,
       PX_TFD = 0x20,
       PX_SIG = 0x24,
       PX_SSTS = 0x28,
       PX_SCTL = 0x2c,
       PX_SERR = 0x30,
       PX_SACT = 0x34,
       PX_CI = 0x38,
};
enum { /* PxCMD */
       CMD_ST = BIT(0),
       CMD_SUD = BIT(1),
       CMD_POD = BIT(2),
       CMD_CLO = BIT(3),
       CMD_FRE = BIT(4),
       CMD_CCS_SHIFT = 8,
       CMD_FR = BIT(14),
       CMD_CR = BIT(15),
       CMD_ATAPI = BIT(24),
       CMD_DLAE = BIT(25),
       CMD_STORED = CMD_ST | CMD_FRE | CMD_ATAPI | CMD_DLAE,
};
enum { SCTL_DET = 15, SCTL_RESET = 1, SCTL_OFF = 4, SCTL_STORED = 0xfff };
enum { SSTS_UP = 0x133, SSTS_OFF = 4 }; /* active, 6 Gbit/s, a drive */
enum { CLB_ALIGN = 1024, FB_ALIGN = 256, TABLE_ALIGN = 128 };
enum { FIS_H2D = 0x27, FIS_D2H = 0x34, FIS_BITS = 0xa1, FIS_PIO = 0x5f };
enum { FIS_LEN = 20, FIS_INTERRUPT = BIT(6), FIS_TO_HOST = BIT(5), FIS_COMMAND = BIT(7) };
enum { RX_PIO = 0x20, RX_D2H = 0x40, RX_BITS = 0x58 };
enum { HEADER_LEN = 32, HEADER_ATAPI = BIT(5), TABLE_PACKET = 0x40, TABLE_PRDT = 0x80 };
enum { ATA_CTL_SRST = BIT(2) };

/* --- what the drive sends --- */

static uint8_t ahci_status(const struct ahci_port *p)
{
    return p->exclusive || p->reset_due || p->srst ? ATA_BSY : p->drive.status;
}

static void ahci_deliver(struct ahci_port *p, unsigned at, const uint8_t *fis, unsigned len)
{
    bool ok = !(p->cmd & CMD_FRE) || guest_write(vm_mem(p->ahci->pci.dev.vm), p->fb + at, fis, len);

    if (!ok)
        ahci_port_halt(p, AHCI_IS_HBFS);
}

/* The registers, as a FIS has them. */
static void ahci_task_file(const struct ahci_port *p, uint8_t *fis)
{
    const struct ata_drive *d = &p->drive;

    fis[2] = d->status;
    fis[3] = d->error;
    fis[7] = d->device;
    fis[12] = d->reg[ATA_COUNT];
    fis[13] = d->hob[ATA_COUNT];
    for (unsigned i = 0; i < 3; i++) {
        fis[4 + i] = d->reg[ATA_LBA0 + i];
        fis[8 + i] = d->hob[ATA_LBA0 + i];
    }
}

void ahci_send_d2h(struct ahci_port *p, bool interrupt)
{
    uint8_t fis[FIS_LEN] = { FIS_D2H, interrupt ? FIS_INTERRUPT : 0 };

    ahci_task_file(p, fis);
    ahci_deliver(p, RX_D2H, fis, sizeof(fis));
    p->is |= interrupt ? AHCI_IS_DHRS : 0;
}

void ahci_send_pio_setup(struct ahci_port *p, bool to_host, uint32_t len, bool interrupt)
{
    uint8_t fis[FIS_LEN] = { FIS_PIO };

    fis[1] = (uint8_t)((interrupt ? FIS_INTERRUPT : 0) | (to_host ? FIS_TO_HOST : 0));
    ahci_task_file(p, fis);
    fis[2] |= ATA_DRQ;
    fis[15] = p->drive.status; /* once the data has been moved */
    st_le16(fis + 16, (uint16_t)len);
    ahci_deliver(p, RX_PIO, fis, sizeof(fis));
    p->is |= interrupt ? AHCI_IS_PSS : 0;
}

void ahci_send_bits(struct ahci_port *p, uint32_t done)
{
    uint8_t fis[8] = { FIS_BITS, FIS_INTERRUPT, p->drive.status & 0x77, p->drive.error };

    st_le32(fis + 4, done);
    ahci_deliver(p, RX_BITS, fis, sizeof(fis));
    p->sact &= ~done;
    p->is |= AHCI_IS_SDBS;
}

static void ahci_send_signature(struct ahci_port *p)
{
    const uint8_t *r = p->drive.reg;

    p->sig = (uint32_t)r[ATA_LBA2] << 24 | (uint32_t)r[ATA_LBA1] << 16 |
             (uint32_t)r[ATA_LBA0] << 8 | r[ATA_COUNT];
    p->sig_pending = !(p->cmd & CMD_FRE);
    ahci_send_d2h(p, false);
}

/* --- resets --- */

static void ahci_drive_reset(struct ahci_port *p)
{
    p->reset_due = false;
    p->drive.device = 0;
    ata_reset(&p->drive);
    ahci_send_signature(p);
}

/* What is in flight is nobody's any more. */
static void ahci_forget(struct ahci_port *p)
{
    for (unsigned i = 0; i < AHCI_SLOTS; i++)
        p->command[i].live = false;
    p->live = 0;
    p->exclusive = false;
}

static void ahci_reset_when_idle(struct ahci_port *p)
{
    ahci_forget(p);
    p->srst = false;
    p->reset_due = p->in_flight;
    if (!p->in_flight)
        ahci_drive_reset(p);
}

void ahci_port_power_on(struct ahci_port *p)
{
    p->cmd = 0;
    ahci_drive_reset(p);
}

/* What the guest said of its memory stays (3.1.2). */
void ahci_port_reset(struct ahci_port *p)
{
    p->is = p->ie = p->cmd = p->sctl = p->serr = p->sact = p->ci = 0;
    p->current = 0;
    p->halted = false;
    ahci_reset_when_idle(p);
}

bool ahci_port_settled(const struct ahci_port *p)
{
    return !p->reset_due;
}

void ahci_port_halt(struct ahci_port *p, uint32_t is)
{
    p->halted = true;
    p->is |= is;
    ahci_forget(p);
}

static void ahci_stop(struct ahci_port *p)
{
    ahci_forget(p);
    p->halted = false;
    p->ci = p->sact = 0;
    p->current = 0;
}

/* The second of the two FISes of a software reset ends it. */
static void ahci_control_fis(struct ahci_port *p, unsigned slot, uint8_t control)
{
    bool srst = control & ATA_CTL_SRST;

    p->ci &= ~BIT(slot);
    if (p->srst && !srst) {
        p->srst = false;
        ahci_drive_reset(p);
    }
    p->srst = srst;
}

/* --- commands --- */

/* False: it has to wait, or the port has halted. */
static bool ahci_begin_slot(struct ahci_port *p, unsigned slot)
{
    struct physmap *mem = vm_mem(p->ahci->pci.dev.vm);
    uint64_t header = p->clb + slot * HEADER_LEN, table;
    uint8_t head[HEADER_LEN], fis[TABLE_PRDT];
    bool queued;

    p->current = (uint8_t)slot;
    if (!guest_read(mem, header, head, sizeof(head))) {
        ahci_port_halt(p, AHCI_IS_HBFS);
        return false;
    }
    table = ld_le64(head + 8) & ~(uint64_t)(TABLE_ALIGN - 1);
    if (!guest_read(mem, table, fis, sizeof(fis))) {
        ahci_port_halt(p, AHCI_IS_HBFS);
        return false;
    }
    queued = (fis[1] & FIS_COMMAND) && ata_is_queued(fis[2]) && !p->drive.cdrom;
    if (p->live && (p->exclusive || !queued))
        return false;
    if (fis[0] == FIS_H2D && !(fis[1] & FIS_COMMAND)) {
        ahci_control_fis(p, slot, fis[15]);
        return true;
    }
    if (fis[0] != FIS_H2D)
        fis[2] = 0; /* NOP, which fails */
    p->live |= BIT(slot);
    p->exclusive = !queued;
    ahci_command_begin(&p->command[slot], fis, header, fis + TABLE_PACKET, table + TABLE_PRDT,
                       ld_le16(head + 2));
    return true;
}

/* Bounded: a slot whose command ends at once is not pending any more. */
static void ahci_begin_all(struct ahci_port *p)
{
    for (unsigned i = 0; i < AHCI_SLOTS; i++) {
        bool ready = (p->cmd & CMD_ST) && !p->halted && !p->held && !p->reset_due &&
                     !(p->in_flight & ~p->live);

        if (!ready || p->exclusive)
            return;
        if ((p->ci & ~p->live & BIT(i)) && !ahci_begin_slot(p, i))
            return;
    }
}

/* What was submitted since the last time, here or by a completion, goes to the host as one batch. */
void ahci_port_run(struct ahci_port *p)
{
    ahci_begin_all(p);
    if (p->uncommitted)
        blk_commit(p->drive.disk);
    p->uncommitted = false;
}

void ahci_port_postpone(struct ahci_port *p, struct ahci_command *c)
{
    c->live = false;
    p->live &= ~BIT(c->slot);
    p->exclusive = false;
    p->ci |= BIT(c->slot);
    p->held = true;
}

void ahci_port_resume(struct ahci_port *p)
{
    p->held = false;
    ahci_port_run(p);
}

void ahci_port_landed(struct ahci_port *p, struct ahci_command *c)
{
    c->in_flight = false;
    p->in_flight &= ~BIT(c->slot);
    if (p->reset_due && !p->in_flight)
        ahci_drive_reset(p);
}

/* --- registers --- */

static uint32_t ahci_read_cmd(const struct ahci_port *p)
{
    uint32_t val = p->cmd | CMD_SUD | CMD_POD;

    if (p->cmd & CMD_FRE)
        val |= CMD_FR;
    if ((p->cmd & CMD_ST) || p->in_flight)
        val |= CMD_CR;
    return val | (uint32_t)p->current << CMD_CCS_SHIFT;
}

static uint32_t ahci_read_ssts(const struct ahci_port *p)
{
    unsigned det = p->sctl & SCTL_DET;

    return det == SCTL_OFF ? SSTS_OFF : det == SCTL_RESET ? 0 : SSTS_UP;
}

uint32_t ahci_port_read(const struct ahci_port *p, unsigned reg)
{
    switch (reg) {
    case PX_CLB:
        return (uint32_t)p->clb;
    case PX_CLBU:
        return (uint32_t)(p->clb >> 32);
    case PX_FB:
        return (uint32_t)p->fb;
    case PX_FBU:
        return (uint32_t)(p->fb >> 32);
    case PX_IS:
        return p->is;
    case PX_IE:
        return p->ie;
    case PX_CMD:
        return ahci_read_cmd(p);
    case PX_TFD:
        return (uint32_t)p->drive.error << 8 | ahci_status(p);
    case PX_SIG:
        return p->sig;
    case PX_SSTS:
        return ahci_read_ssts(p);
    case PX_SCTL:
        return p->sctl;
    case PX_SERR:
        return p->serr;
    case PX_SACT:
        return p->sact;
    case PX_CI:
        return p->ci;
    default:
        return 0;
    }
}

static void ahci_write_cmd(struct ahci_port *p, uint32_t val)
{
    uint32_t old = p->cmd;

    p->cmd = val & CMD_STORED;
    if ((old ^ val) & CMD_ST)
        ahci_stop(p);
    if (val & CMD_CLO) { /* the drive's status does not keep commands back */
        p->srst = false;
        p->drive.status &= (uint8_t)~ATA_DRQ;
    }
    if ((val & CMD_FRE) && p->sig_pending) {
        p->sig_pending = false;
        ahci_send_d2h(p, false);
    }
}

static void ahci_write_sctl(struct ahci_port *p, uint32_t val)
{
    unsigned was = p->sctl & SCTL_DET, is = val & SCTL_DET;

    p->sctl = val & SCTL_STORED;
    if (is == SCTL_RESET && was != SCTL_RESET)
        ahci_stop(p);
    if (was == SCTL_RESET && is != SCTL_RESET)
        ahci_reset_when_idle(p);
}

static void ahci_set_low(uint64_t *reg, uint32_t val, uint32_t align)
{
    *reg = (*reg & ~(uint64_t)UINT32_MAX) | (val & ~(align - 1));
}

static void ahci_set_high(uint64_t *reg, uint32_t val)
{
    *reg = (uint64_t)val << 32 | (uint32_t)*reg;
}

void ahci_port_write(struct ahci_port *p, unsigned reg, uint32_t val)
{
    switch (reg) {
    case PX_CLB:
        ahci_set_low(&p->clb, val, CLB_ALIGN);
        break;
    case PX_CLBU:
        ahci_set_high(&p->clb, val);
        break;
    case PX_FB:
        ahci_set_low(&p->fb, val, FB_ALIGN);
        break;
    case PX_FBU:
        ahci_set_high(&p->fb, val);
        break;
    case PX_IS:
        p->is &= ~val;
        break;
    case PX_IE:
        p->ie = val & AHCI_IS_ALL;
        break;
    case PX_CMD:
        ahci_write_cmd(p, val);
        break;
    case PX_SCTL:
        ahci_write_sctl(p, val);
        break;
    case PX_SERR:
        p->serr &= ~val;
        break;
    case PX_SACT:
        p->sact |= p->cmd & CMD_ST ? val : 0;
        break;
    case PX_CI:
        p->ci |= p->cmd & CMD_ST ? val : 0;
        break;
    default:
        break;
    }
    ahci_port_run(p);
}

/* --- state --- */

void ahci_port_state(struct ahci_port *p, struct state *s)
{
    if (state_loading(s)) { /* only somebody who did not quiesce has any in flight */
        ahci_forget(p);
        p->reset_due = p->held = false;
    }
    ata_state(&p->drive, s);
    state_u8(s, &p->drive.device);
    state_bytes(s, p->drive.ncq_log, sizeof(p->drive.ncq_log));
    state_u64(s, &p->clb);
    state_u64(s, &p->fb);
    state_u32(s, &p->is);
    state_u32(s, &p->ie);
    state_u32(s, &p->cmd);
    state_u32(s, &p->sig);
    state_u32(s, &p->sctl);
    state_u32(s, &p->serr);
    state_u32(s, &p->sact);
    state_u32(s, &p->ci);
    state_u8(s, &p->current);
    state_bool(s, &p->halted);
    state_bool(s, &p->srst);
    state_bool(s, &p->sig_pending);
    state_require(s, !(p->clb % CLB_ALIGN) && !(p->fb % FB_ALIGN), "misaligned addresses");
    state_require(s, !(p->cmd & ~CMD_STORED) && !(p->sctl & ~SCTL_STORED), "impossible registers");
    state_require(s, p->current < AHCI_SLOTS, "no such slot");
}
