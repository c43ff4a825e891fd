#include "control/gdb_packet.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char gdb_digits[] = "0123456789abcdef";

static int gdb_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* --- frames from the client --- */

void gdb_parser_init(struct gdb_parser *p)
{
    memset(p, 0, sizeof(*p));
}

static void gdb_parser_start(struct gdb_parser *p)
{
    p->state = GDB_DATA;
    p->sum = 0;
    p->len = 0;
    p->broken = false;
}

static void gdb_parser_data(struct gdb_parser *p, uint8_t byte)
{
    if (p->len == GDB_PACKET_MAX)
        p->broken = true;
    else
        p->data[p->len++] = (char)byte;
}

/* Outside of a packet: line noise is skipped. */
static enum gdb_event gdb_parser_idle(struct gdb_parser *p, uint8_t byte)
{
    switch (byte) {
    case '$':
        gdb_parser_start(p);
        return GDB_EV_NONE;
    case '+':
        return GDB_EV_ACK;
    case '-':
        return GDB_EV_NAK;
    case GDB_INTERRUPT:
        return GDB_EV_INTERRUPT;
    default:
        return GDB_EV_NONE;
    }
}

static enum gdb_event gdb_parser_end(struct gdb_parser *p)
{
    p->state = GDB_IDLE;
    p->data[p->len] = '\0';
    return p->broken || p->want != p->sum ? GDB_EV_BAD : GDB_EV_PACKET;
}

static void gdb_parser_sum(struct gdb_parser *p, uint8_t byte)
{
    int digit = gdb_digit((char)byte);

    p->broken |= digit < 0;
    p->want = (uint8_t)(p->want << 4 | (digit & 15));
}

enum gdb_event gdb_parser_push(struct gdb_parser *p, uint8_t byte)
{
    switch (p->state) {
    case GDB_IDLE:
        return gdb_parser_idle(p, byte);
    case GDB_DATA:
        if (byte == '$') { /* the end of the one before was lost */
            gdb_parser_start(p);
            return GDB_EV_NONE;
        }
        if (byte == '#') {
            p->state = GDB_SUM_HIGH;
            p->want = 0;
            return GDB_EV_NONE;
        }
        p->sum = (uint8_t)(p->sum + byte);
        if (byte == '}')
            p->state = GDB_ESCAPE;
        else
            gdb_parser_data(p, byte);
        return GDB_EV_NONE;
    case GDB_ESCAPE:
        p->sum = (uint8_t)(p->sum + byte);
        gdb_parser_data(p, byte ^ 0x20);
        p->state = GDB_DATA;
        return GDB_EV_NONE;
    case GDB_SUM_HIGH:
        gdb_parser_sum(p, byte);
        p->state = GDB_SUM_LOW;
        return GDB_EV_NONE;
    default:
        gdb_parser_sum(p, byte);
        return gdb_parser_end(p);
    }
}

/* --- frames to the client --- */

static void gdb_put_bytes(struct gdb_reply *r, const char *bytes, size_t n)
{
    if (n > sizeof(r->data) - r->len) {
        r->overflow = true;
        return;
    }
    memcpy(r->data + r->len, bytes, n);
    r->len += n;
}

void gdb_put(struct gdb_reply *r, const char *text)
{
    gdb_put_bytes(r, text, strlen(text));
}

void gdb_putf(struct gdb_reply *r, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    gdb_put(r, text);
}

void gdb_put_hex(struct gdb_reply *r, const void *bytes, size_t n)
{
    const uint8_t *b = bytes;

    for (size_t i = 0; i < n; i++) {
        const char two[2] = { gdb_digits[b[i] >> 4], gdb_digits[b[i] & 15] };

        gdb_put_bytes(r, two, sizeof(two));
    }
}

void gdb_put_binary(struct gdb_reply *r, const void *bytes, size_t n)
{
    const char *b = bytes;

    for (size_t i = 0; i < n; i++) {
        const char escaped[2] = { '}', (char)(b[i] ^ 0x20) };

        if (b[i] == '#' || b[i] == '$' || b[i] == '}' || b[i] == '*')
            gdb_put_bytes(r, escaped, sizeof(escaped));
        else
            gdb_put_bytes(r, &b[i], 1);
    }
}

size_t gdb_frame(const struct gdb_reply *r, char *out)
{
    const char *data = r->overflow ? "E07" : r->data; /* E2BIG */
    size_t len = r->overflow ? 3 : r->len;
    uint8_t sum = 0;

    out[0] = '$';
    for (size_t i = 0; i < len; i++) {
        out[i + 1] = data[i];
        sum = (uint8_t)(sum + (uint8_t)data[i]);
    }
    out[len + 1] = '#';
    out[len + 2] = gdb_digits[sum >> 4];
    out[len + 3] = gdb_digits[sum & 15];
    return len + 4;
}

/* --- numbers --- */

bool gdb_scan_hex(const char **p, uint64_t *v)
{
    unsigned n = 0;

    *v = 0;
    for (int digit; (digit = gdb_digit(**p)) >= 0; ++*p, n++)
        *v = *v << 4 | (unsigned)digit;
    return n > 0 && n <= 16;
}

bool gdb_scan_hex_to(const char **p, uint64_t *v, char sep)
{
    if (!gdb_scan_hex(p, v) || **p != sep)
        return false;
    ++*p;
    return true;
}

bool gdb_scan_bytes(const char *hex, void *bytes, size_t n)
{
    uint8_t *b = bytes;

    for (size_t i = 0; i < n; i++) {
        int high = gdb_digit(hex[2 * i]), low = high < 0 ? -1 : gdb_digit(hex[2 * i + 1]);

        if (low < 0)
            return false;
        b[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
