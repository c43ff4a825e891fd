/*
 * ahci_command.c: a command of the SATA controller, from its FIS to what the drive sends at its end. Its data
 * is where the PRD table says (AHCI 1.3.1, 4.2.3.3), 16 bytes an entry:
 *
 *     address, 64 bits | 32 bits reserved | bit 31: interrupt, bits 21:0: bytes - 1, odd
 *
 * The disk and guest memory exchange data without a copy between, in rounds of at most AHCI_SEGS pieces and of
 * whole sectors. Not modelled: the interrupt of a PRD.
 */
#include "hw/ahci_impl.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"

enum { PRD_LEN = 16, PRD_BYTES = 0x3fffff, HEADER_MOVED = 4 };

static struct physmap *ahci_mem(const struct ahci_command *c)
{
    return vm_mem(c->port->ahci->pci.dev.vm);
}

/* --- guest memory --- */

static bool ahci_prd(const struct ahci_command *c, uint32_t i, uint64_t *gpa, uint32_t *len)
{
    uint8_t entry[PRD_LEN];

    if (!guest_read(ahci_mem(c), c->prdt.gpa + (uint64_t)i * PRD_LEN, entry, sizeof(entry)))
        return false;
    *gpa = ld_le64(entry) & ~1ull;
    *len = (ld_le32(entry + 12) & PRD_BYTES) + 1;
    *len += *len & 1;
    return true;
}

/* Up to `want` bytes from where the table is at into c->sg. False: bus error. */
static bool ahci_gather(struct ahci_command *c, uint64_t want, bool to_memory)
{
    uint32_t next = c->prdt.next, used = c->prdt.used, len;
    uint64_t gpa;

    sglist_reset(&c->sg);
    c->sg.to_memory = to_memory;
    for (; c->sg.len < want && next < c->prdt.n; next++, used = 0) {
        enum sglist_result r;

        if (!ahci_prd(c, next, &gpa, &len))
            return false;
        if (used >= len)
            continue;
        r = sglist_add(&c->sg, gpa + used, min_u64(len - used, want - c->sg.len));
        if (r != SGLIST_OK)
            return r == SGLIST_FULL;
    }
    return true;
}

/* n bytes of the table have been used. */
static bool ahci_advance(struct ahci_command *c, uint64_t n)
{
    struct ahci_prdt *t = &c->prdt;
    uint32_t len;
    uint64_t gpa;

    while (n && t->next < t->n) {
        uint64_t step;

        if (!ahci_prd(c, t->next, &gpa, &len))
            return false;
        step = t->used < len ? min_u64(n, len - t->used) : 0;
        t->used += (uint32_t)step;
        n -= step;
        if (t->used >= len) {
            t->next++;
            t->used = 0;
        }
    }
    return true;
}

/* --- the end --- */

/* What an end of a command alone looks like depends on how its data went. */
static void ahci_finish_alone(struct ahci_command *c, bool ok)
{
    struct ahci_port *p = c->port;
    bool to_host = c->job.act == ATA_SEND || c->job.act == ATA_READ;
    bool pio = ok && !c->job.dma && c->moved && !c->packet;
    uint8_t moved[4];
    bool known;

    st_le32(moved, c->moved);
    known = guest_write(ahci_mem(c), c->header + HEADER_MOVED, moved, sizeof(moved));
    (void)known; /* it was there when the command began */
    p->exclusive = false;
    if (pio)
        ahci_send_pio_setup(p, to_host, c->moved, to_host);
    if (!pio || !to_host)
        ahci_send_d2h(p, true);
    if (ok)
        p->ci &= ~BIT(c->slot);
    else
        ahci_port_halt(p, AHCI_IS_TFES);
}

static void ahci_finish(struct ahci_command *c, bool ok)
{
    struct ahci_port *p = c->port;

    c->live = false;
    p->live &= ~BIT(c->slot);
    if (!c->queued) {
        ahci_finish_alone(c, ok);
        return;
    }
    ahci_send_bits(p, ok ? BIT(c->slot) : 0);
    if (!ok)
        ahci_port_halt(p, AHCI_IS_TFES);
}

static void ahci_succeed(struct ahci_command *c)
{
    struct ata_drive *d = &c->port->drive;

    d->status = ATA_READY;
    if (c->packet)
        d->reg[ATA_COUNT] = ATAPI_COD | ATAPI_IO;
    ahci_finish(c, true);
}

static void ahci_fail(struct ahci_command *c, uint8_t error)
{
    struct ata_drive *d = &c->port->drive;

    d->status = ATA_READY | ATA_ERR;
    d->error = error;
    if (c->queued)
        ata_ncq_failed(d, c->slot, (c->job.off + c->moved) / ATA_SECTOR, error);
    ahci_finish(c, false);
}

/* The PRD table does not fit: what it points to is no memory, or it is too short. */
static void ahci_fail_memory(struct ahci_command *c, uint32_t is)
{
    c->port->is |= is;
    ahci_fail(c, ATA_ABRT);
}

/* --- the disk --- */

static void ahci_round(struct ahci_command *c);
static void ahci_trim(struct ahci_command *c);

static void ahci_failed_io(struct ahci_command *c, int err)
{
    struct device *dev = &c->port->ahci->pci.dev;
    struct ata_drive *d = &c->port->drive;

    log_limited(&dev->log, LOG_WARN, "ahci", "port %u: %s of %llu bytes at %llu failed: %s",
                (unsigned)(c->port - c->port->ahci->port), c->req.op == BLK_READ ? "read" : "write",
                (unsigned long long)c->req.len, (unsigned long long)c->req.off, strerror(-err));
    if (d->cdrom) {
        cdrom_sense(&d->cd, SENSE_READ_ERROR);
        ahci_fail(c, atapi_error(d));
    } else {
        ahci_fail(c, c->req.op == BLK_READ ? ATA_UNC : ATA_ABRT);
    }
}

static void ahci_landed(struct ahci_command *c, int err)
{
    if (c->req.op == BLK_READ)
        sglist_written(&c->sg);
    ahci_port_landed(c->port, c);
    if (!c->live)
        return;
    if (err == -ECANCELED) {
        ahci_port_postpone(c->port, c);
        return;
    }
    if (err) {
        ahci_failed_io(c, err);
        return;
    }
    c->moved += c->req.op == BLK_DISCARD ? 0 : (uint32_t)c->req.len;
    if (c->job.act == ATA_TRIM)
        ahci_trim(c);
    else if (c->moved < c->job.len)
        ahci_round(c);
    else
        ahci_succeed(c);
}

static void ahci_done(struct blk_req *req, int err)
{
    struct ahci_command *c = container_of(req, struct ahci_command, req);
    struct ahci *a = c->port->ahci;

    pthread_mutex_lock(&a->pci.dev.lock);
    ahci_landed(c, err);
    ahci_port_run(c->port);
    ahci_update(a);
    pthread_mutex_unlock(&a->pci.dev.lock);
}

static void ahci_submit(struct ahci_command *c, enum blk_op op, uint64_t off, uint64_t len)
{
    c->in_flight = true;
    c->port->in_flight |= BIT(c->slot);
    c->port->uncommitted = true;
    c->req = (struct blk_req){
        .op = op,
        .flags = BLK_F_MORE | (op == BLK_WRITE && c->job.fua ? BLK_F_FUA : 0),
        .off = off,
        .len = len,
        .iov = c->iov,
        .niov = op == BLK_READ || op == BLK_WRITE ? (int)c->sg.n : 0,
        .done = ahci_done,
    };
    blk_submit(c->port->drive.disk, &c->req);
}

static void ahci_round(struct ahci_command *c)
{
    bool write = c->job.act == ATA_WRITE;
    uint64_t left = c->job.len - c->moved;

    if (!ahci_gather(c, left, !write)) {
        ahci_fail_memory(c, AHCI_IS_HBFS);
        return;
    }
    sglist_cut(&c->sg, c->sg.len - c->sg.len % ATA_SECTOR);
    if (!c->sg.len)
        ahci_fail_memory(c, AHCI_IS_OFS);
    else if (c->sg.len < left && !ahci_advance(c, c->sg.len))
        ahci_fail_memory(c, AHCI_IS_HBFS);
    else
        ahci_submit(c, write ? BLK_WRITE : BLK_READ, c->job.off + c->moved, c->sg.len);
}

/* --- the buffer --- */

/* len bytes of the port's buffer to guest memory, or from there; fewer if the guest has no more room. */
static bool ahci_copy(struct ahci_command *c, uint32_t len, bool to_memory)
{
    uint8_t *buf = c->port->buf;

    while (c->moved < len) {
        if (!ahci_gather(c, len - c->moved, to_memory))
            return false;
        if (!c->sg.len)
            return true;
        for (unsigned i = 0; i < c->sg.n; i++) {
            const struct iovec *v = &c->sg.iov[i];

            if (to_memory)
                memcpy(v->iov_base, buf + c->moved, v->iov_len);
            else
                memcpy(buf + c->moved, v->iov_base, v->iov_len);
            c->moved += (uint32_t)v->iov_len;
        }
        if (c->moved < len && !ahci_advance(c, c->sg.len))
            return false;
    }
    return true;
}

static void ahci_send(struct ahci_command *c)
{
    if (ahci_copy(c, (uint32_t)c->job.len, true))
        ahci_succeed(c);
    else
        ahci_fail_memory(c, AHCI_IS_HBFS);
}

/* One range after the other. */
static void ahci_trim(struct ahci_command *c)
{
    const struct ata_drive *d = &c->port->drive;
    uint64_t off, len;

    switch (ata_trim_next(d, c->port->buf, (uint32_t)c->job.len, &c->trim_at, &off, &len)) {
    case 0:
        ahci_succeed(c);
        break;
    case 1:
        sglist_reset(&c->sg);
        ahci_submit(c, BLK_DISCARD, off, len);
        break;
    default:
        ahci_fail(c, ATA_ABRT);
        break;
    }
}

static void ahci_begin_trim(struct ahci_command *c)
{
    if (!ahci_copy(c, (uint32_t)c->job.len, false))
        ahci_fail_memory(c, AHCI_IS_HBFS);
    else if (c->moved < c->job.len)
        ahci_fail_memory(c, AHCI_IS_OFS);
    else
        ahci_trim(c);
}

/* --- the begin --- */

static void ahci_packet(struct ahci_command *c, const uint8_t *packet)
{
    struct ata_drive *d = &c->port->drive;
    struct cdrom_job j = { 0 };
    enum cdrom_act act = cdrom_packet(&d->cd, packet, c->port->buf, &j);

    c->job.off = j.off;
    c->job.len = j.len;
    c->job.act = act == CDROM_REPLY ? ATA_SEND : ATA_READ;
    if (act == CDROM_OK)
        ahci_succeed(c);
    else if (act == CDROM_FAIL)
        ahci_fail(c, atapi_error(d));
    else if (act == CDROM_REPLY)
        ahci_send(c);
    else
        ahci_round(c);
}

static void ahci_run(struct ahci_command *c, const uint8_t *packet)
{
    switch (c->job.act) {
    case ATA_DONE:
        ahci_succeed(c);
        break;
    case ATA_FAILED:
        ahci_fail(c, c->job.error);
        break;
    case ATA_SEND:
        ahci_send(c);
        break;
    case ATA_READ:
    case ATA_WRITE:
        ahci_round(c);
        break;
    case ATA_FLUSH:
        sglist_reset(&c->sg);
        ahci_submit(c, BLK_FLUSH, 0, 0);
        break;
    case ATA_PACKET:
        ahci_packet(c, packet);
        break;
    case ATA_TRIM:
        ahci_begin_trim(c);
        break;
    }
}

static void ahci_load_task_file(struct ata_drive *d, const uint8_t *fis)
{
    d->reg[ATA_FEATURE] = fis[3];
    d->hob[ATA_FEATURE] = fis[11];
    d->device = fis[7];
    d->reg[ATA_COUNT] = fis[12];
    d->hob[ATA_COUNT] = fis[13];
    for (unsigned i = 0; i < 3; i++) {
        d->reg[ATA_LBA0 + i] = fis[4 + i];
        d->hob[ATA_LBA0 + i] = fis[8 + i];
    }
}

/* The drive takes a queued command at once, and the slot is the guest's again but for the tag. */
void ahci_command_begin(struct ahci_command *c, const uint8_t *fis, uint64_t header,
                        const uint8_t *packet, uint64_t prdt, uint32_t prdt_n)
{
    struct ahci_port *p = c->port;

    c->live = true;
    c->queued = !p->exclusive;
    c->code = fis[2];
    c->job = (struct ata_job){ .buf = p->buf };
    c->header = header;
    c->moved = c->trim_at = 0;
    c->prdt = (struct ahci_prdt){ .gpa = prdt, .n = prdt_n };
    ahci_load_task_file(&p->drive, fis);
    ata_command(&p->drive, c->code, &c->job);
    c->packet = c->job.act == ATA_PACKET;
    if (c->queued)
        p->ci &= ~BIT(c->slot);
    ahci_run(c, packet);
}
