/*
 * gdb_packet.h: frames of GDB's remote protocol (GDB manual, E.1): "$data#checksum", acknowledgements,
 * the interrupt byte. No I/O; bytes from the client are hostile. Any thread, one at a time.
 */
#ifndef CONTROL_GDB_PACKET_H
#define CONTROL_GDB_PACKET_H

#include "base/util.h"

enum {
    GDB_PACKET_MAX = 0x4000, /* data of a packet, unescaped */
    GDB_FRAME_MAX = GDB_PACKET_MAX + 4,
    GDB_INTERRUPT = 3, /* the byte of Ctrl-C */
};

enum gdb_event {
    GDB_EV_NONE,   /* in the middle of something */
    GDB_EV_PACKET, /* data and len are good until the next byte */
    GDB_EV_BAD,    /* wrong checksum, or too long */
    GDB_EV_ACK,
    GDB_EV_NAK,
    GDB_EV_INTERRUPT,
};
struct gdb_parser {
    enum { GDB_IDLE, GDB_DATA, GDB_ESCAPE, GDB_SUM_HIGH, GDB_SUM_LOW } state;
    uint8_t sum, want;
    bool broken; /* too long, or no checksum: skipped up to its end */
    size_t len;
    char data[GDB_PACKET_MAX + 1]; /* with a NUL behind it */
};
void gdb_parser_init(struct gdb_parser *p);
enum gdb_event gdb_parser_push(struct gdb_parser *p, uint8_t byte);

/* The data of an answer. What does not fit makes it an error answer. */
struct gdb_reply {
    size_t len;
    bool overflow;
    char data[GDB_PACKET_MAX];
};
void gdb_put(struct gdb_reply *r, const char *text);
void gdb_putf(struct gdb_reply *r, const char *fmt, ...) printf_like(2, 3);
void gdb_put_hex(struct gdb_reply *r, const void *bytes, size_t n);
void gdb_put_binary(struct gdb_reply *r, const void *bytes, size_t n); /* escaped, E.1 */
/* The frame of the answer into out[GDB_FRAME_MAX]; its length. */
size_t gdb_frame(const struct gdb_reply *r, char *out);

/* Reads hex digits (1 to 16) at *p and moves it past them; false: there are none, or too many. */
must_check bool gdb_scan_hex(const char **p, uint64_t *v);
/* The same, then the character sep. */
must_check bool gdb_scan_hex_to(const char **p, uint64_t *v, char sep);
/* n bytes of two digits each; false: others. */
must_check bool gdb_scan_bytes(const char *hex, void *bytes, size_t n);

#endif
