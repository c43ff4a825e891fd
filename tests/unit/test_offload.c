#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/endian.h"
#include "net/offload.h"
#include "frames.h"

enum { BIG = 40000 };

static void test_checksum(void **ctx)
{
    uint8_t p[200];

    (void)ctx;
    for (size_t len = 40; len < sizeof(p); len++) {
        for (size_t i = 0; i < len; i++)
            p[i] = (uint8_t)(i * 37 + len);
        st_be16(p + 14 + 16, 0);
        assert_true(offload_checksum(p, len, 14, 16));
        assert_int_equal(frame_sum(p + 14, len - 14, 0), 0xffff);
    }
}

static void test_checksum_bounds(void **ctx)
{
    uint8_t p[64] = { 0 };

    (void)ctx;
    assert_false(offload_checksum(p, 64, 64, 0));
    assert_false(offload_checksum(p, 64, 60, 4));
    assert_false(offload_checksum(p, 64, 65535, 65535));
    assert_false(offload_checksum(p, 0, 0, 0));
    assert_true(offload_checksum(p, 64, 60, 2));
    assert_true(offload_checksum(p, 64, 34, 6));
    assert_int_equal(ld_be16(p + 40), 0xffff); /* UDP: 0 would mean none */
}

static void check_segment(uint8_t *p, size_t len, size_t ip, bool v6)
{
    size_t tcp = ip + (v6 ? 40 : 20);
    uint32_t pseudo = frame_sum(p + ip + (v6 ? 8 : 12), v6 ? 32 : 8, 0) + 6 + (uint32_t)(len - tcp);

    p[ip] = v6 ? 0x60 : 0x45;
    p[ip + (v6 ? 6 : 9)] = 6;
    assert_true(offload_tcp_segment(p, len));
    if (!v6) {
        assert_int_equal(ld_be16(p + ip + 2), len - ip);
        assert_int_equal(frame_sum(p + ip, 20, 0), 0xffff);
    } else {
        assert_int_equal(ld_be16(p + ip + 4), len - tcp);
    }
    assert_int_equal(frame_sum(p + tcp, len - tcp, (pseudo & 0xffff) + (pseudo >> 16)), 0xffff);
}

/* A card that finds the sums by itself: whatever is in their places. */
static void test_ip4_sums(void **ctx)
{
    uint8_t p[120];
    uint32_t pseudo;

    (void)ctx;
    for (unsigned proto = 6; proto <= 17; proto += 11) {
        for (size_t i = 0; i < sizeof(p); i++)
            p[i] = (uint8_t)(i * 11);
        st_be16(p + 12, 0x0800);
        p[14] = 0x45;
        st_be16(p + 16, 90); /* and padding behind it */
        st_be16(p + 20, 0);
        p[23] = (uint8_t)proto;
        assert_true(offload_ip4_sums(p, sizeof(p), true, true));
        pseudo = frame_sum(p + 26, 8, 0) + proto + 70;
        assert_int_equal(frame_sum(p + 14, 20, 0), 0xffff);
        assert_int_equal(frame_sum(p + 34, 70, pseudo), 0xffff);
    }
    st_be16(p + 16, 107); /* longer than the frame */
    assert_false(offload_ip4_sums(p, sizeof(p), true, true));
    st_be16(p + 16, 90);
    st_be16(p + 20, 0x2000); /* a fragment */
    assert_false(offload_ip4_sums(p, sizeof(p), true, true));
    assert_false(offload_ip4_sums(p, 20, true, true));
}

/* One segment as packets that say the same. */
static void test_packets(void **ctx)
{
    enum { HEADER = 54, MSS = 1000, LEN = HEADER + 2500 };
    static uint8_t big[LEN], out[HEADER + MSS];
    static const size_t lens[] = { 1000, 1000, 500 };

    (void)ctx;
    for (size_t i = 0; i < LEN; i++)
        big[i] = (uint8_t)(i * 13);
    st_be16(big + 12, 0x0800);
    big[14] = 0x45;
    st_be16(big + 18, 0xffff); /* identification */
    st_be16(big + 20, 0x4000);
    big[23] = 6;
    st_be32(big + 38, 0xfffffff0); /* sequence number */
    big[46] = 0x50;
    big[47] = 0x99; /* CWR, ACK, PSH, FIN */
    for (size_t i = 0; i < 3; i++) {
        size_t len = offload_tcp_packet(big, LEN, HEADER, MSS, i * MSS, out);

        assert_int_equal(len, HEADER + lens[i]);
        assert_memory_equal(out + HEADER, big + HEADER + i * MSS, lens[i]);
        assert_int_equal(ld_be16(out + 16), len - 14);
        assert_int_equal(ld_be16(out + 18), (0xffff + i) & 0xffff);
        assert_int_equal(ld_be32(out + 38), (uint32_t)(0xfffffff0 + i * MSS));
        assert_int_equal(out[47], i == 0 ? 0x90 : i == 1 ? 0x10 : 0x19);
        assert_int_equal(frame_sum(out + 14, 20, 0), 0xffff);
    }
    assert_int_equal(offload_tcp_packet(big, LEN, 50, MSS, 0, out), 0); /* headers cut off */
    assert_int_equal(offload_tcp_packet(big, LEN, HEADER, 0, 0, out), 0);
}

static void test_segments(void **ctx)
{
    static uint8_t p[BIG];

    (void)ctx;
    for (int vlan = 0; vlan < 2; vlan++)
        for (int v6 = 0; v6 < 2; v6++) {
            size_t ip = vlan ? 18 : 14;

            for (size_t i = 0; i < BIG; i++)
                p[i] = (uint8_t)(i * 7 + i / 256);
            if (vlan)
                st_be16(p + 12, 0x8100);
            st_be16(p + ip - 2, v6 ? 0x86dd : 0x0800);
            check_segment(p, BIG - (size_t)vlan, ip, v6);
        }
}

static void test_segments_refused(void **ctx)
{
    static uint8_t p[70000] = { [12] = 0x08, [14] = 0x45, [23] = 6 };

    (void)ctx;
    assert_false(offload_tcp_segment(p, 0));
    assert_false(offload_tcp_segment(p, 45)); /* no room for TCP */
    assert_true(offload_tcp_segment(p, 54));
    assert_false(offload_tcp_segment(p, sizeof(p)));
    p[14] = 0x4f; /* options beyond the end */
    assert_false(offload_tcp_segment(p, 60));
    p[14] = 0x41;
    assert_false(offload_tcp_segment(p, 60));
    p[14] = 0x45;
    p[23] = 17;
    assert_false(offload_tcp_segment(p, 60)); /* UDP */
    p[13] = 6;
    assert_false(offload_tcp_segment(p, 60)); /* ARP */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checksum), cmocka_unit_test(test_checksum_bounds),
        cmocka_unit_test(test_ip4_sums), cmocka_unit_test(test_packets),
        cmocka_unit_test(test_segments), cmocka_unit_test(test_segments_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
