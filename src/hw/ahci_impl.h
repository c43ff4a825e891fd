/*
 * ahci_impl.h: between the files of the SATA controller.
 *
 *  ahci.c          the PCI function and the controller's own registers, interrupts, state
 *  ahci_port.c     a port: its registers, resets, what the drive sends (FISes), which commands begin when
 *  ahci_command.c  a command: guest memory by PRD table, requests to the block layer, its end
 *
 * What commands and packets mean is ata.h's and cdrom.h's. Everything here runs with the device lock held.
 *
 * A command is `live` from its begin to its end. One whose slot the guest has taken back meanwhile (a reset, a
 * port that was stopped) is not, but its memory is in use until the block layer gives it back: the port says so
 * (PxCMD.CR, BSY) and begins nothing new until then. Nothing is in flight when state is saved.
 */
#ifndef HW_AHCI_IMPL_H
#define HW_AHCI_IMPL_H

#include "hw/ahci.h"
#include "hw/ata.h"
#include "hw/sglist.h"

enum { AHCI_SLOTS = 32, AHCI_SEGS = 256, AHCI_BUF = ATA_TRIM_SECTORS * ATA_SECTOR };
enum { /* PxIS, PxIE */
       AHCI_IS_DHRS = BIT(0),
       AHCI_IS_PSS = BIT(1),
       AHCI_IS_SDBS = BIT(3),
       AHCI_IS_OFS = BIT(24),
       AHCI_IS_HBFS = BIT(29),
       AHCI_IS_TFES = BIT(30),
       AHCI_IS_ALL = 0x7dc000ff,
};

struct ahci_prdt { /* where in a PRD table */
    uint64_t gpa;  /* of the table */
    uint32_t n;    /* entries */
    uint32_t next; /* the entry, */
    uint32_t used; /* and how much of it has been moved */
};

struct ahci_port;
struct ahci_command {
    struct ahci_port *port;
    uint8_t slot;
    bool live, in_flight;
    bool queued; /* NCQ */
    bool packet;
    uint8_t code; /* of the ATA command */
    struct ata_job job;
    uint64_t header;  /* gpa */
    uint32_t moved;   /* bytes */
    uint32_t trim_at; /* in the ranges */
    struct ahci_prdt prdt;

    struct blk_req req;
    struct sglist sg;
    struct iovec iov[AHCI_SEGS];
    uint64_t gpa[AHCI_SEGS];
};

struct ahci;
struct ahci_port {
    struct ahci *ahci;
    struct ata_drive drive;       /* its disk is owned */
    struct ahci_command *command; /* AHCI_SLOTS of them */
    uint8_t buf[AHCI_BUF];        /* for replies and ranges */

    /* guest-visible state */
    uint64_t clb, fb;
    uint32_t is, ie, cmd, sig, sctl, serr, sact, ci;
    uint8_t current;  /* slot */
    bool halted;      /* by an error, until the guest stops the port */
    bool srst;        /* in a software reset */
    bool sig_pending; /* the FIS that follows a reset is still to be written */

    /* not saved: zero when nothing is in flight */
    uint32_t live;      /* bit a slot */
    uint32_t in_flight; /* bit a slot: the block layer has it */
    bool exclusive;     /* the live command is not a queued one: it is alone, and the drive busy */
    bool reset_due;     /* when nothing is in flight any more */
    bool held;          /* nothing begins before the VM goes on */
    bool uncommitted;   /* requests that the host is to be told of */
};

struct ahci {
    struct pci_dev pci;
    unsigned n_ports;
    struct ahci_port port[AHCI_PORTS];

    /* guest-visible state */
    uint32_t ghc, is;

    bool level; /* of the interrupt; for MSI its rise is what counts */
};

/* --- ahci.c --- */
void ahci_update(struct ahci *a); /* the interrupt */

/* --- ahci_port.c --- */
uint32_t ahci_port_read(const struct ahci_port *p, unsigned reg);
void ahci_port_write(struct ahci_port *p, unsigned reg, uint32_t val);
void ahci_port_power_on(struct ahci_port *p);
void ahci_port_reset(struct ahci_port *p); /* with the whole controller */
bool ahci_port_settled(const struct ahci_port *p);
void ahci_port_state(struct ahci_port *p, struct state *s);
void ahci_port_run(struct ahci_port *p); /* begins what may begin */
/* The block layer could not do it before the VM was stopped: it begins anew when the VM goes on. */
void ahci_port_postpone(struct ahci_port *p, struct ahci_command *c);
void ahci_port_resume(struct ahci_port *p);
void ahci_port_landed(struct ahci_port *p,
                      struct ahci_command *c);         /* the block layer gave it back */
void ahci_port_halt(struct ahci_port *p, uint32_t is); /* a fatal error */
/* What the drive sends into the guest's memory; which bits of PxIS it raises. */
void ahci_send_d2h(struct ahci_port *p, bool interrupt);
void ahci_send_pio_setup(struct ahci_port *p, bool to_host, uint32_t len, bool interrupt);
void ahci_send_bits(struct ahci_port *p, uint32_t done); /* set device bits: of queued commands */

/* --- ahci_command.c --- */
/* fis: the command's; the slot's header and table are at these addresses. */
void ahci_command_begin(struct ahci_command *c, const uint8_t *fis, uint64_t header,
                        const uint8_t *packet, uint64_t prdt, uint32_t prdt_n);

#endif
