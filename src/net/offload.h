/*
 * offload.h: what a network card does for a driver that leaves work to it, done in software on one
 * contiguous Ethernet frame. Frames are the guest's: everything is checked. Any thread.
 */
#ifndef NET_OFFLOAD_H
#define NET_OFFLOAD_H

#include "base/util.h"

/*
 * The sum over [start, end of frame), in which the driver has put the pseudo-header's, is completed and
 * stored at start + offset. false: that is outside of the frame.
 */
must_check bool offload_checksum(uint8_t *frame, size_t len, size_t start, size_t offset);

/*
 * A TCP segment above the MTU becomes one valid packet of that size: lengths and checksums are made
 * afresh, because drivers differ in what they leave there. false: not TCP over IPv4 or IPv6.
 */
must_check bool offload_tcp_segment(uint8_t *frame, size_t len);

/*
 * Makes the checksums of a packet over IPv4 that the card has to find by itself: of the IP header, and of TCP or UDP
 * whatever is there now. false: it is not IPv4, or its lengths are nonsense.
 */
must_check bool offload_ip4_sums(uint8_t *frame, size_t len, bool ip_header, bool transport);

/*
 * Of such a segment, whose first `header` bytes are headers: the packet that carries the mss bytes from `at` on, or
 * what is left of them. out has room for header + mss. Its length; 0: not TCP over IPv4 or IPv6.
 */
must_check size_t offload_tcp_packet(const uint8_t *frame, size_t len, size_t header, size_t mss,
                                     size_t at, uint8_t *out);

#endif
