/*
 * vnc_priv.h: between the files of the VNC server.
 *
 *  vnc.c         sockets, the refresh timer
 *  vnc_client.c  one viewer's protocol, without its socket
 *  vnc_encode.c  rectangles in the viewer's pixel format and encoding
 */
#ifndef DISPLAY_VNC_PRIV_H
#define DISPLAY_VNC_PRIV_H

#include <zlib.h>

#include "display/keymap.h"
#include "display/vnc.h"

enum {
    VNC_TILE = 32, /* pixels in either direction: changes are tracked so */
    VNC_TILES = SURFACE_MAX / VNC_TILE,
    VNC_RX_MAX = 24, /* the longest message with a fixed length */
    VNC_CHALLENGE = 16,
    VNC_PASSWORD = 8,
};
enum vnc_phase { VNC_VERSION, VNC_SECURITY, VNC_AUTH, VNC_INIT, VNC_NORMAL, VNC_ENDED };

struct vnc_format {
    uint8_t bpp, depth; /* 8, 16, 32 */
    bool big_endian;
    uint16_t max[3]; /* red, green, blue */
    uint8_t shift[3];
};
/* Bytes to be sent; grows. */
struct vnc_buf {
    uint8_t *data;
    size_t len, cap, sent;
    bool failed; /* out of memory: what is in it is incomplete */
};
struct vnc_client {
    /* wiring */
    const struct vnc_source *source;
    const struct surface *screen;
    const char *password; /* NULL: none */
    /* protocol */
    enum vnc_phase phase;
    unsigned minor;
    uint8_t challenge[VNC_CHALLENGE];
    uint8_t rx[VNC_RX_MAX];
    unsigned rx_len;
    uint32_t skip;      /* bytes of clipboard text to come */
    uint32_t encodings; /* numbers of a SetEncodings to come */
    struct vnc_format format;
    bool zrle, resizes, raw_keys;
    bool tell_keys;         /* that we understand raw key events, with the next update */
    unsigned width, height; /* of the screen, as the viewer knows it */
    bool wants;             /* an update */
    uint8_t dirty[VNC_TILES][VNC_TILES / 8];
    uint8_t pressed[KEYMAP_KEYS / 8];
    uint8_t pointer_mask; /* what the viewer's pointer last had pressed, as the protocol has it */
    uint16_t pointer_x, pointer_y;
    z_stream zlib;
    bool zlib_ready;
    struct vnc_buf tx;
};

/* vnc_buf: n bytes more, or NULL. */
uint8_t *vnc_buf_add(struct vnc_buf *b, size_t n);
void vnc_put(struct vnc_buf *b, const void *bytes, size_t n);
void vnc_put_u8(struct vnc_buf *b, uint8_t val);
void vnc_put_u16(struct vnc_buf *b, uint16_t val);
void vnc_put_u32(struct vnc_buf *b, uint32_t val);

/* On a zeroed struct with its wiring set; random: the challenge. Says hello. */
void vnc_client_start(struct vnc_client *c, const uint8_t random[VNC_CHALLENGE]);
void vnc_client_fini(struct vnc_client *c); /* lets go of all keys */
/* Takes bytes while nothing waits to be sent; how many. phase is VNC_ENDED: it is to be disconnected. */
size_t vnc_client_feed(struct vnc_client *c, const uint8_t *bytes, size_t n);
void vnc_client_mark(struct vnc_client *c, unsigned tile_x, unsigned tile_y);
void vnc_client_mark_all(struct vnc_client *c);
/* Puts an update into tx if one is wanted, something changed and tx is empty. */
void vnc_client_update(struct vnc_client *c);

/* A rectangle within the screen, with its header. */
void vnc_encode_rect(struct vnc_client *c, unsigned x, unsigned y, unsigned w, unsigned h);
void vnc_rect_header(struct vnc_buf *b, unsigned x, unsigned y, unsigned w, unsigned h,
                     int32_t encoding);
bool vnc_format_valid(const struct vnc_format *f);
/* DES of the challenge by the password: what the right viewer sends. false: no such cipher here. */
bool vnc_auth_response(const char *password, const uint8_t challenge[VNC_CHALLENGE],
                       uint8_t response[VNC_CHALLENGE]);

#endif
