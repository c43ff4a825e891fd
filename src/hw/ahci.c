/*
 * ahci.c: the controller: see ahci.h and ahci_impl.h. Not modelled: hot plug, port multipliers, power states,
 * command completion coalescing, enclosure management, the index and data pair of I/O ports.
 *
 * Locking: the device lock, for all of it; completions come on the loop thread and take it.
 */
#include "hw/ahci_impl.h"

#include <errno.h>
#include <stdio.h>

enum {
    AHCI_CLASS = 0x010601,
    AHCI_BAR = 5,
    AHCI_BAR_LEN = 0x1000,
    AHCI_PORT0 = 0x100,
    AHCI_PORT_LEN = 0x80,
};
enum { /* registers */
       HBA_CAP = 0x00,
       HBA_GHC = 0x04,
       HBA_IS = 0x08,
       HBA_PI = 0x0c,
       HBA_VS = 0x10,
};
#define HBA_CAP_64      BIT(31)
#define HBA_CAP_NCQ     BIT(30)
#define HBA_CAP_CLO     BIT(24)
#define HBA_CAP_SPEED   (3u << 20) /* 6 Gbit/s */
#define HBA_CAP_ONLY    BIT(18)    /* no mode but AHCI */
#define HBA_CAP_SLOTS   ((AHCI_SLOTS - 1u) << 8)
#define HBA_GHC_RESET   BIT(0)
#define HBA_GHC_IE      BIT(1)
#define HBA_GHC_AE      BIT(31)
#define HBA_VERSION_131 0x00010301u

static struct ahci *ahci_of(struct device *d)
{
    return container_of(d, struct ahci, pci.dev);
}

/* --- interrupt --- */

/* What a port has to say stays in IS until the guest clears it there, and then comes back if it was not heard. */
void ahci_update(struct ahci *a)
{
    bool level;

    for (unsigned i = 0; i < a->n_ports; i++)
        if (a->port[i].is & a->port[i].ie)
            a->is |= BIT(i);
    level = a->is && (a->ghc & HBA_GHC_IE);
    pci_set_intx(&a->pci, level && !pci_msi_enabled(&a->pci));
    if (level && !a->level)
        pci_msi_fire(&a->pci);
    a->level = level;
}

/* Whatever is left or has come back after the guest cleared something is another message. */
static void ahci_clear(struct ahci *a, uint32_t bits)
{
    a->is &= ~bits;
    a->level = false;
    ahci_update(a);
}

/* --- registers --- */

static void ahci_reset(struct ahci *a)
{
    for (unsigned i = 0; i < a->n_ports; i++)
        ahci_port_reset(&a->port[i]);
    a->ghc = HBA_GHC_AE;
    a->is = 0;
    a->level = false;
    ahci_update(a);
}

/* A reset takes until nothing is in flight. */
static uint32_t ahci_ghc(const struct ahci *a)
{
    for (unsigned i = 0; i < a->n_ports; i++)
        if (!ahci_port_settled(&a->port[i]))
            return a->ghc | HBA_GHC_RESET;
    return a->ghc;
}

static uint32_t ahci_read32(const struct ahci *a, uint64_t off)
{
    uint64_t port = (off - AHCI_PORT0) / AHCI_PORT_LEN;

    if (off >= AHCI_PORT0)
        return port < a->n_ports ? ahci_port_read(&a->port[port], off % AHCI_PORT_LEN) : 0;
    switch (off) {
    case HBA_CAP:
        return HBA_CAP_64 | HBA_CAP_NCQ | HBA_CAP_CLO | HBA_CAP_SPEED | HBA_CAP_ONLY |
               HBA_CAP_SLOTS | (a->n_ports - 1);
    case HBA_GHC:
        return ahci_ghc(a);
    case HBA_IS:
        return a->is;
    case HBA_PI:
        return BIT(a->n_ports) - 1;
    case HBA_VS:
        return HBA_VERSION_131;
    default:
        return 0;
    }
}

static void ahci_write32(struct ahci *a, uint64_t off, uint32_t val)
{
    uint64_t port = (off - AHCI_PORT0) / AHCI_PORT_LEN;

    if (off >= AHCI_PORT0) {
        if (port < a->n_ports)
            ahci_port_write(&a->port[port], off % AHCI_PORT_LEN, val);
        ahci_update(a);
    } else if (off == HBA_IS) {
        ahci_clear(a, val);
    } else if (off == HBA_GHC && (val & HBA_GHC_RESET)) {
        ahci_reset(a);
    } else if (off == HBA_GHC) {
        a->ghc = HBA_GHC_AE | (val & HBA_GHC_IE);
        ahci_update(a);
    }
}

static uint64_t ahci_read(struct device *d, uint64_t off, unsigned size)
{
    (void)size;
    return ahci_read32(ahci_of(d), off);
}

static void ahci_write(struct device *d, uint64_t off, unsigned size, uint64_t val)
{
    (void)size;
    ahci_write32(ahci_of(d), off, (uint32_t)val);
}

static const struct io_ops ahci_io = { ahci_read, ahci_write, 4, 4 };

/* --- the device --- */

static void ahci_state(struct device *d, struct state *s)
{
    struct ahci *a = ahci_of(d);
    uint32_t n = a->n_ports;

    pci_state(&a->pci, s);
    state_u32(s, &n);
    state_require(s, n == a->n_ports, "there were other drives");
    for (unsigned i = 0; i < a->n_ports; i++)
        ahci_port_state(&a->port[i], s);
    state_u32(s, &a->ghc);
    state_u32(s, &a->is);
    state_require(s, (a->ghc & ~HBA_GHC_IE) == HBA_GHC_AE && !(a->is >> (a->n_ports - 1) >> 1),
                  "impossible registers");
}

static void ahci_sync(struct device *d)
{
    struct ahci *a = ahci_of(d);

    pci_sync(&a->pci);
    for (unsigned i = 0; i < a->n_ports; i++)
        ahci_port_resume(&a->port[i]);
    a->level = false;
    ahci_update(a);
}

static void ahci_quiesce(struct device *d)
{
    struct ahci *a = ahci_of(d);

    for (unsigned i = 0; i < a->n_ports; i++)
        blk_drain(a->port[i].drive.disk);
}

static void ahci_free(struct ahci *a)
{
    for (unsigned i = 0; i < a->n_ports; i++)
        free(a->port[i].command);
    free(a);
}

static void ahci_destroy(struct device *d)
{
    struct ahci *a = ahci_of(d);

    for (unsigned i = 0; i < a->n_ports; i++)
        blk_close(a->port[i].drive.disk);
    ahci_free(a);
}

static const struct device_ops ahci_ops = {
    .type = "ahci",
    .version = 1,
    .state = ahci_state,
    .sync = ahci_sync,
    .quiesce = ahci_quiesce,
    .destroy = ahci_destroy,
};

static int ahci_init_port(struct ahci_port *p, const struct ahci_media *media, unsigned n)
{
    char *serial = p->drive.serial;

    p->command = calloc(AHCI_SLOTS, sizeof(*p->command));
    if (!p->command)
        return -ENOMEM;
    for (unsigned i = 0; i < AHCI_SLOTS; i++) {
        struct ahci_command *c = &p->command[i];

        c->port = p;
        c->slot = (uint8_t)i;
        c->sg = (struct sglist){
            .mem = vm_mem(p->ahci->pci.dev.vm), .iov = c->iov, .gpa = c->gpa, .max = AHCI_SEGS
        };
    }
    if (media->serial)
        snprintf(serial, sizeof(p->drive.serial), "%s", media->serial);
    else
        snprintf(serial, sizeof(p->drive.serial), "RS%05u", n + 1);
    p->drive.sata = true;
    ata_power_on(&p->drive, media->disk, media->cdrom);
    ahci_port_power_on(p);
    return 0;
}

int ahci_create(struct pci_bus *bus, unsigned devfn, const struct ahci_media *media, unsigned n,
                struct err *e)
{
    struct ahci *a = calloc(1, sizeof(*a));
    int rc = a ? 0 : -ENOMEM;

    BUG_ON(!n || n > AHCI_PORTS);
    if (!a)
        return err_set(e, ENOMEM, "out of memory");
    pci_init(&a->pci, &ahci_ops, pci_bus_vm(bus), "ahci", 0x8086, 0x2922, AHCI_CLASS, 2);
    pci_add_bar(&a->pci, AHCI_BAR, AHCI_BAR_LEN, false, false, &ahci_io);
    pci_add_msi(&a->pci);
    pci_add_intx(&a->pci);
    a->ghc = HBA_GHC_AE;
    a->n_ports = n;
    for (unsigned i = 0; !rc && i < n; i++) {
        a->port[i].ahci = a;
        rc = ahci_init_port(&a->port[i], &media[i], i);
    }
    if (rc)
        err_set(e, ENOMEM, "out of memory");
    else
        rc = pci_add(bus, &a->pci, devfn, e);
    if (rc)
        ahci_free(a);
    return rc;
}
