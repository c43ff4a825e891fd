/*
 * frames.h: Ethernet frames and their sums for tests of network cards. Any thread.
 */
#ifndef UNIT_FRAMES_H
#define UNIT_FRAMES_H

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <string.h>

#include "base/endian.h"

enum { FRAME_ARP_LEN = 60 /* 42 and zeros */ };

/* An ARP request from mac, which says it is 10.0.2.15, to everybody: who has 10.0.2.2? */
static inline void frame_arp(uint8_t p[FRAME_ARP_LEN], const uint8_t mac[6])
{
    memset(p, 0, FRAME_ARP_LEN);
    memset(p, 0xff, 6);
    memcpy(p + 6, mac, 6);
    st_be16(p + 12, ETHERTYPE_ARP);
    memcpy(p + 14, "\0\1\x08\0\6\4\0\1", 8);
    memcpy(p + 22, mac, 6);
    inet_pton(AF_INET, "10.0.2.15", p + 28);
    inet_pton(AF_INET, "10.0.2.2", p + 38);
}

/* The sum of the Internet checksum (RFC 1071), the slow way; 0xffff for data that includes its own right one. */
static inline uint16_t frame_sum(const uint8_t *p, size_t len, uint32_t sum)
{
    for (size_t i = 0; i < len; i++)
        sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

#endif
