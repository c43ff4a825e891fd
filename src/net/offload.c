#include "net/offload.h"

#include <net/ethernet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/endian.h"

enum {
    OFFLOAD_VLAN_LEN = 4,
    OFFLOAD_IP4_MIN = 20,
    OFFLOAD_IP6_LEN = 40,
    OFFLOAD_TCP_MIN = 20,
    OFFLOAD_TCP_CSUM = 16,
    OFFLOAD_UDP_CSUM = 6,
    OFFLOAD_TCP_LAST = 0x09, /* FIN and PSH: of the last packet only */
    OFFLOAD_TCP_CWR = 0x80,  /* of the first one only */
};

/* One's complement sum of big-endian words; an odd last byte is the high one of its word. */
static uint64_t offload_sum(const uint8_t *p, size_t len)
{
    uint64_t sum = 0;

    for (; len >= 4; p += 4, len -= 4)
        sum += ld_be32(p);
    if (len >= 2) {
        sum += ld_be16(p);
        p += 2;
        len -= 2;
    }
    return len ? sum + ((uint64_t)*p << 8) : sum;
}

static uint16_t offload_fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

bool offload_checksum(uint8_t *frame, size_t len, size_t start, size_t offset)
{
    uint16_t sum;

    if (start >= len || offset + 2 > len - start)
        return false;
    sum = offload_fold(offload_sum(frame + start, len - start));
    if (!sum && offset == OFFLOAD_UDP_CSUM)
        sum = 0xffff; /* 0 would mean "none" in UDP */
    st_be16(frame + start + offset, sum);
    return true;
}

/* addrs: source and destination, one after the other, addrs_len bytes together. */
static bool offload_tcp(uint8_t *tcp, size_t len, const uint8_t *addrs, size_t addrs_len)
{
    uint64_t sum = offload_sum(addrs, addrs_len) + IPPROTO_TCP + len;

    if (len < OFFLOAD_TCP_MIN)
        return false;
    st_be16(tcp + OFFLOAD_TCP_CSUM, 0);
    st_be16(tcp + OFFLOAD_TCP_CSUM, offload_fold(sum + offload_sum(tcp, len)));
    return true;
}

static bool offload_ip4(uint8_t *ip, size_t len)
{
    size_t ip_len = (size_t)(ip[0] & 0xf) * 4;

    if (len > UINT16_MAX || ip_len < OFFLOAD_IP4_MIN || ip_len > len || ip[9] != IPPROTO_TCP)
        return false;
    st_be16(ip + 2, (uint16_t)len);
    st_be16(ip + 10, 0);
    st_be16(ip + 10, offload_fold(offload_sum(ip, ip_len)));
    return offload_tcp(ip + ip_len, len - ip_len, ip + 12, 8);
}

static bool offload_ip6(uint8_t *ip, size_t len)
{
    if (len < OFFLOAD_IP6_LEN || len - OFFLOAD_IP6_LEN > UINT16_MAX || ip[6] != IPPROTO_TCP)
        return false; /* extension headers: no driver segments behind them */
    st_be16(ip + 4, (uint16_t)(len - OFFLOAD_IP6_LEN));
    return offload_tcp(ip + OFFLOAD_IP6_LEN, len - OFFLOAD_IP6_LEN, ip + 8, 32);
}

/* Where the IP header is and which protocol's; 0: the frame is too short. */
static size_t offload_network(const uint8_t *frame, size_t len, uint16_t *type)
{
    if (len < ETHER_HDR_LEN + OFFLOAD_VLAN_LEN + OFFLOAD_IP4_MIN)
        return 0;
    *type = ld_be16(frame + 12);
    if (*type != ETHERTYPE_VLAN)
        return ETHER_HDR_LEN;
    *type = ld_be16(frame + 12 + OFFLOAD_VLAN_LEN);
    return ETHER_HDR_LEN + OFFLOAD_VLAN_LEN;
}

bool offload_tcp_segment(uint8_t *frame, size_t len)
{
    uint16_t type = 0;
    size_t at = offload_network(frame, len, &type);

    if (type == ETHERTYPE_IP)
        return offload_ip4(frame + at, len - at);
    return type == ETHERTYPE_IPV6 && offload_ip6(frame + at, len - at);
}

/* Fragments have no checksum of their own that could be made. */
static bool offload_transport(uint8_t *ip, size_t ip_len, size_t len)
{
    size_t at = ip[9] == IPPROTO_TCP ? OFFLOAD_TCP_CSUM : OFFLOAD_UDP_CSUM;
    uint8_t *data = ip + ip_len;
    uint16_t sum;

    len -= ip_len;
    if ((ip[9] != IPPROTO_TCP && ip[9] != IPPROTO_UDP) || len < at + 2 || ld_be16(ip + 6) & 0x3fff)
        return false;
    st_be16(data + at, 0);
    sum = offload_fold(offload_sum(ip + 12, 8) + ip[9] + len + offload_sum(data, len));
    st_be16(data + at, !sum && at == OFFLOAD_UDP_CSUM ? 0xffff : sum);
    return true;
}

bool offload_ip4_sums(uint8_t *frame, size_t len, bool ip_header, bool transport)
{
    uint16_t type = 0;
    size_t at = offload_network(frame, len, &type), ip_len;
    uint8_t *ip = frame + at;

    if (!at || type != ETHERTYPE_IP)
        return false;
    ip_len = (size_t)(ip[0] & 0xf) * 4;
    if (ip_len < OFFLOAD_IP4_MIN || ip_len > ld_be16(ip + 2) || ld_be16(ip + 2) > len - at)
        return false;
    if (ip_header) {
        st_be16(ip + 10, 0);
        st_be16(ip + 10, offload_fold(offload_sum(ip, ip_len)));
    }
    return !transport || offload_transport(ip, ip_len, ld_be16(ip + 2));
}

/* The headers' fields that differ from packet to packet; the sums are made afterwards. */
static bool offload_number(uint8_t *out, size_t header, size_t at, size_t index, bool last)
{
    uint16_t type = 0;
    size_t ip = offload_network(out, header, &type), tcp;

    tcp = ip + (type == ETHERTYPE_IP ? (size_t)(out[ip] & 0xf) * 4 : (size_t)OFFLOAD_IP6_LEN);
    if (!ip || tcp + OFFLOAD_TCP_MIN > header)
        return false;
    if (type == ETHERTYPE_IP)
        st_be16(out + ip + 4, (uint16_t)(ld_be16(out + ip + 4) + index));
    st_be32(out + tcp + 4, (uint32_t)(ld_be32(out + tcp + 4) + at));
    if (!last)
        out[tcp + 13] &= (uint8_t)~OFFLOAD_TCP_LAST;
    if (index)
        out[tcp + 13] &= (uint8_t)~OFFLOAD_TCP_CWR;
    return true;
}

size_t offload_tcp_packet(const uint8_t *frame, size_t len, size_t header, size_t mss, size_t at,
                          uint8_t *out)
{
    size_t data;

    if (!mss || header > len || at > len - header)
        return 0;
    data = min_u64(mss, len - header - at);
    memcpy(out, frame, header);
    memcpy(out + header, frame + header + at, data);
    if (!offload_number(out, header, at, at / mss, header + at + data == len))
        return 0;
    return offload_tcp_segment(out, header + data) ? header + data : 0;
}
