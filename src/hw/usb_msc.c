/*
 * usb_msc.c: the bulk-only transport. The host sends a command block (CBW), data goes its way, and the device
 * sends a status (CSW). A command's data is in one buffer here: it is carried out once all of it has come, or
 * handed out once it is complete, filled up with zeros to the length that the host said.
 *
 *     CBW  0 "USBC"  4 tag   8 length  12 direction (bit 7: in)  13 LUN  14 length of the command  15 command
 *     CSW  0 "USBS"  4 tag   8 residue  12 status
 *
 * Locking: the controller's device lock; a command's end comes from the loop and takes it.
 */
#include "hw/usb_msc.h"

#include <stdio.h>
#include <string.h>

#include "base/endian.h"

enum { MSC_EP_IN = 1, MSC_EP_OUT = 2 };
enum { MSC_GET_MAX_LUN = 0xfe, MSC_RESET = 0xff };
enum { CBW_LEN = 31, CSW_LEN = 13, CBW_IN = 0x80 };
enum { CSW_PASSED = 0, CSW_FAILED = 1 };
enum { MSC_DATA_MAX = 4 * MIB, MSC_DATA_KEPT = 128 * KIB }; /* of a command; between commands */
#define CBW_SIGNATURE 0x43425355u
#define CSW_SIGNATURE 0x53425355u

enum msc_phase {
    MSC_COMMAND,  /* waits for a CBW */
    MSC_DATA_OUT, /* takes data */
    MSC_EXECUTE,  /* the command is to be started, or in flight */
    MSC_DATA_IN,  /* hands out data */
    MSC_STATUS,   /* waits for the CSW to be fetched */
    MSC_BROKEN,   /* nonsense came: stalls until it is reset */
};

struct usb_msc {
    struct usb_dev usb; /* first */
    struct usb_desc desc;
    const char *strings[3];
    struct blk *disk; /* owned */
    struct scsi_disk unit;
    /* guest-visible state */
    uint8_t phase;
    uint8_t cbw[CBW_LEN], cbw_len;
    uint32_t len, at; /* of the data, in bytes: how much there is to be, and has moved */
    uint32_t residue;
    uint8_t result;
    uint8_t *data; /* room for len bytes at least, unless len is 0 */
    size_t room;
    /* not saved: what is under way */
    bool in_flight, forget; /* reset meanwhile: what the command gives is not wanted */
    struct scsi_command command;
    struct iovec iov;
};

/* --- descriptors --- */

#define MSC_CONFIG(total)       9, 2, total, 0, 1, 1, 0, 0x80, 50
#define MSC_INTERFACE           9, 4, 0, 0, 2, 8, 6, 0x50, 0 /* SCSI, bulk-only */
#define MSC_BULK(ep, low, high) 7, 5, ep, 2, low, high, 0
#define MSC_COMPANION           6, 48, 15, 0, 0, 0

static const uint8_t usb_msc_config_full[] = {
    MSC_CONFIG(32),
    MSC_INTERFACE,
    MSC_BULK(0x80 | MSC_EP_IN, 64, 0),
    MSC_BULK(MSC_EP_OUT, 64, 0),
};
static const uint8_t usb_msc_config_high[] = {
    MSC_CONFIG(32),
    MSC_INTERFACE,
    MSC_BULK(0x80 | MSC_EP_IN, 0, 2),
    MSC_BULK(MSC_EP_OUT, 0, 2),
};
static const uint8_t usb_msc_config_super[] = {
    MSC_CONFIG(44),
    MSC_INTERFACE,
    MSC_BULK(0x80 | MSC_EP_IN, 0, 4),
    MSC_COMPANION,
    MSC_BULK(MSC_EP_OUT, 0, 4),
    MSC_COMPANION,
};
/* Capabilities: USB 2.0 extension; super speed: from full speed on, latencies */
static const uint8_t usb_msc_bos[] = {
    5, 15, 22, 0, 2, 7, 16, 2, 0, 0, 0, 0, 10, 16, 3, 0, 0x0e, 0, 1, 10, 0xff, 0x07,
};
/* USB 2.0 and 3.0; endpoint 0 has packets of 64 and of 2^9 bytes. */
static const uint8_t usb_msc_device2[] = {
    18, 1, 0x00, 0x02, 0, 0, 0, 64, 0xf4, 0x46, 0x01, 0x00, 0x00, 0x00, 1, 2, 3, 1,
};
static const uint8_t usb_msc_device3[] = {
    18, 1, 0x00, 0x03, 0, 0, 0, 9, 0xf4, 0x46, 0x01, 0x00, 0x00, 0x00, 1, 2, 3, 1,
};

static struct usb_msc *usb_msc_of(struct usb_dev *d)
{
    return container_of(d, struct usb_msc, usb);
}

/* --- data --- */

/* Room for len bytes, all zero. What is larger than usual is given back afterwards. */
static bool usb_msc_room(struct usb_msc *m, uint32_t len)
{
    if (len > m->room || (m->room > MSC_DATA_KEPT && len <= MSC_DATA_KEPT)) {
        uint8_t *data = realloc(m->data, max_u64(len, 1));

        if (!data)
            return false;
        m->data = data;
        m->room = len;
    }
    if (len)
        memset(m->data, 0, len);
    return true;
}

/* --- commands --- */

static bool usb_msc_is_in(const struct usb_msc *m)
{
    return m->cbw[12] & CBW_IN;
}

static void usb_msc_finish(struct usb_msc *m, bool passed, uint64_t moved)
{
    m->result = passed ? CSW_PASSED : CSW_FAILED;
    m->residue = m->len - (uint32_t)min_u64(moved, m->len);
    m->at = 0;
    m->phase = usb_msc_is_in(m) && m->len ? MSC_DATA_IN : MSC_STATUS;
    usb_wake(&m->usb, MSC_EP_IN, true);
}

/* SCSI_BUSY: the host side was told to stop for a while. The command is started anew when it goes on. */
static void usb_msc_over(struct usb_msc *m)
{
    struct scsi_command *c = &m->command;

    if (c->status == SCSI_BUSY)
        return;
    usb_msc_finish(m, c->status == SCSI_GOOD, c->moved);
}

static void usb_msc_done(struct scsi_command *c)
{
    struct usb_msc *m = container_of(c, struct usb_msc, command);

    usb_lock(&m->usb);
    m->in_flight = false;
    if (m->forget) {
        m->forget = false;
        usb_wake(&m->usb, MSC_EP_OUT, false);
    } else {
        scsi_disk_keep_sense(c);
        usb_msc_over(m);
    }
    usb_unlock(&m->usb);
}

static void usb_msc_execute(struct usb_msc *m)
{
    m->phase = MSC_EXECUTE;
    m->iov = (struct iovec){ m->data, m->len };
    m->command = (struct scsi_command){
        .unit = &m->unit,
        .to_disk = !usb_msc_is_in(m),
        .iov = &m->iov,
        .niov = m->len ? 1 : 0,
        .len = m->len,
        .done = usb_msc_done,
    };
    memcpy(m->command.cdb, m->cbw + 15, SCSI_CDB_MAX);
    m->in_flight = scsi_disk_start(&m->command);
    if (!m->in_flight)
        usb_msc_over(m);
}

static void usb_msc_break(struct usb_msc *m)
{
    m->phase = MSC_BROKEN;
    usb_halt(&m->usb, MSC_EP_IN, true);
    usb_halt(&m->usb, MSC_EP_OUT, false);
}

/* A CBW is complete. */
static void usb_msc_begin(struct usb_msc *m)
{
    uint8_t cdb_len = m->cbw[14];
    uint32_t len = ld_le32(m->cbw + 8);

    m->cbw_len = 0;
    m->at = 0;
    m->len = len;
    if (ld_le32(m->cbw) != CBW_SIGNATURE || m->cbw[13] || !cdb_len || cdb_len > SCSI_CDB_MAX ||
        len > MSC_DATA_MAX || !usb_msc_room(m, len)) {
        m->len = 0;
        usb_msc_break(m);
        return;
    }
    memset(m->cbw + 15 + cdb_len, 0, SCSI_CDB_MAX - cdb_len);
    if (len && !usb_msc_is_in(m))
        m->phase = MSC_DATA_OUT;
    else
        usb_msc_execute(m);
}

/* --- endpoints --- */

static uint32_t usb_msc_copy(uint8_t *to, const uint8_t *from, uint32_t len, uint64_t most)
{
    uint32_t n = (uint32_t)min_u64(len, most);

    if (n)
        memcpy(to, from, n);
    return n;
}

static void usb_msc_status(struct usb_msc *m, uint8_t csw[CSW_LEN])
{
    st_le32(csw, CSW_SIGNATURE);
    memcpy(csw + 4, m->cbw + 4, 4); /* the tag */
    st_le32(csw + 8, m->residue);
    csw[12] = m->result;
}

static enum usb_result usb_msc_in(struct usb_dev *d, unsigned ep, uint8_t *buf, uint32_t len,
                                  uint32_t *done, bool *end)
{
    struct usb_msc *m = usb_msc_of(d);
    uint8_t csw[CSW_LEN];

    if (ep != MSC_EP_IN)
        return USB_STALL;
    if (m->phase == MSC_DATA_IN) {
        *done = usb_msc_copy(buf, m->data + m->at, len, m->len - m->at);
        m->at += *done;
        *end = m->at == m->len;
        if (*end)
            m->phase = MSC_STATUS;
        return USB_OK;
    }
    if (m->phase != MSC_STATUS)
        return USB_NAK;
    usb_msc_status(m, csw);
    *done = usb_msc_copy(buf, csw, len, sizeof(csw));
    *end = true;
    m->phase = MSC_COMMAND;
    return USB_OK;
}

static enum usb_result usb_msc_out(struct usb_dev *d, unsigned ep, const uint8_t *buf, uint32_t len,
                                   uint32_t *done)
{
    struct usb_msc *m = usb_msc_of(d);

    if (ep != MSC_EP_OUT)
        return USB_STALL;
    if (m->phase == MSC_DATA_OUT) {
        *done = usb_msc_copy(m->data + m->at, buf, len, m->len - m->at);
        m->at += *done;
        if (m->at == m->len)
            usb_msc_execute(m);
        return *done == len ? USB_OK : USB_NAK; /* more is the next command's */
    }
    if (m->phase != MSC_COMMAND || m->in_flight)
        return USB_NAK;
    *done = usb_msc_copy(m->cbw + m->cbw_len, buf, len, CBW_LEN - m->cbw_len);
    m->cbw_len = (uint8_t)(m->cbw_len + *done);
    if (m->cbw_len == CBW_LEN)
        usb_msc_begin(m);
    return *done == len ? USB_OK : USB_NAK;
}

/* --- requests --- */

static void usb_msc_to_command(struct usb_msc *m)
{
    m->forget = m->in_flight;
    m->phase = MSC_COMMAND;
    m->cbw_len = 0;
    m->at = m->len = 0;
    usb_wake(&m->usb, MSC_EP_OUT, false);
}

static enum usb_result usb_msc_control(struct usb_dev *d, const struct usb_setup *s, uint8_t *data,
                                       unsigned *len)
{
    if (s->type == (USB_TYPE_IN | USB_TYPE_CLASS | USB_TYPE_INTERFACE) &&
        s->request == MSC_GET_MAX_LUN) {
        data[0] = 0;
        *len = 1;
        return USB_OK;
    }
    if (s->type == (USB_TYPE_CLASS | USB_TYPE_INTERFACE) && s->request == MSC_RESET) {
        usb_msc_to_command(usb_msc_of(d)); /* endpoints stay halted until the host clears them */
        return USB_OK;
    }
    return USB_STALL;
}

/* 6.6.1: without a reset, what is broken stays so. */
static void usb_msc_unhalted(struct usb_dev *d, unsigned ep, bool in)
{
    if (usb_msc_of(d)->phase == MSC_BROKEN)
        usb_halt(d, ep, in);
}

/* --- the device --- */

static void usb_msc_reset(struct usb_dev *d)
{
    struct usb_msc *m = usb_msc_of(d);

    m->forget = m->in_flight;
    m->phase = MSC_COMMAND;
    memset(m->cbw, 0, sizeof(m->cbw));
    m->cbw_len = m->result = 0;
    m->len = m->at = m->residue = 0;
    if (!m->in_flight)
        scsi_disk_reset(&m->unit);
}

static void usb_msc_state_data(struct usb_msc *m, struct state *s)
{
    bool has_data = m->phase == MSC_DATA_OUT || m->phase == MSC_EXECUTE || m->phase == MSC_DATA_IN;

    state_require(s, m->len <= MSC_DATA_MAX && m->at <= m->len, "mass storage data out of range");
    if (state_loading(s) && !state_error(s))
        state_require(s, usb_msc_room(m, m->len), "no memory for mass storage data");
    if (!state_error(s) && has_data && m->len)
        state_bytes(s, m->data, m->len);
}

static void usb_msc_state(struct usb_dev *d, struct state *s)
{
    struct usb_msc *m = usb_msc_of(d);

    scsi_disk_state(&m->unit, s);
    state_u8(s, &m->phase);
    state_bytes(s, m->cbw, sizeof(m->cbw));
    state_u8(s, &m->cbw_len);
    state_u32(s, &m->len);
    state_u32(s, &m->at);
    state_u32(s, &m->residue);
    state_u8(s, &m->result);
    state_require(s, m->phase <= MSC_BROKEN && m->cbw_len < CBW_LEN, "no such phase");
    usb_msc_state_data(m, s);
    if (state_error(s)) {
        m->phase = MSC_COMMAND;
        m->cbw_len = 0;
        m->len = m->at = 0;
    }
}

static void usb_msc_resume(struct usb_dev *d)
{
    struct usb_msc *m = usb_msc_of(d);

    if (m->phase == MSC_EXECUTE && !m->in_flight)
        usb_msc_execute(m);
}

static void usb_msc_quiesce(struct usb_dev *d)
{
    blk_drain(usb_msc_of(d)->disk);
}

static void usb_msc_destroy(struct usb_dev *d)
{
    struct usb_msc *m = usb_msc_of(d);

    blk_close(m->disk);
    free(m->data);
    free(m);
}

static const struct usb_dev_ops usb_msc_ops = {
    .control = usb_msc_control,
    .in = usb_msc_in,
    .out = usb_msc_out,
    .reset = usb_msc_reset,
    .unhalted = usb_msc_unhalted,
    .state = usb_msc_state,
    .resume = usb_msc_resume,
    .quiesce = usb_msc_quiesce,
    .destroy = usb_msc_destroy,
};

static void usb_msc_describe(struct usb_msc *m, enum usb_speed speed)
{
    const uint8_t *config = speed == USB_SUPER  ? usb_msc_config_super
                            : speed == USB_HIGH ? usb_msc_config_high
                                                : usb_msc_config_full;

    m->strings[0] = "Ruche";
    m->strings[1] = m->unit.cdrom ? "USB CD-ROM" : "USB Disk";
    m->strings[2] = m->unit.serial;
    m->desc = (struct usb_desc){
        .device = speed == USB_SUPER ? usb_msc_device3 : usb_msc_device2,
        .config = config,
        .config_len = config[2],
        .strings = m->strings,
        .n_strings = ARRAY_SIZE(m->strings),
    };
    if (speed == USB_SUPER) {
        m->desc.bos = usb_msc_bos;
        m->desc.bos_len = sizeof(usb_msc_bos);
    }
    m->usb.speed = speed;
    m->usb.desc = &m->desc;
}

struct usb_dev *usb_msc_create(struct blk *disk, bool cdrom, const char *serial, unsigned index,
                               enum usb_speed speed, struct err *e)
{
    struct usb_msc *m = calloc(1, sizeof(*m));
    char own[16]; /* the class asks for at least twelve hexadecimal digits */

    if (!m)
        return err_oom(e);
    snprintf(own, sizeof(own), "52554348%04X", index);
    m->disk = disk;
    scsi_disk_init(&m->unit, disk, cdrom, serial ? serial : own);
    m->usb.ops = &usb_msc_ops;
    m->usb.id = "usb-msc";
    usb_msc_describe(m, speed);
    usb_reset(&m->usb);
    return &m->usb;
}
