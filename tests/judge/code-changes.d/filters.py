"""Classic BPF filters, each another one, on sockets: what they let through is known."""
import socket
import struct
import sys
import ctypes

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
LD_B_ABS, JEQ, RET, LD_IMM, ALU_ADD_K, ALU_MUL_K, ALU_XOR_K, TAX, LDX_IMM, MISC_TXA = (
    0x30, 0x15, 0x06, 0x00, 0x04, 0x24, 0xa4, 0x07, 0x01, 0x87)


def program(want, length):
    """Takes datagrams whose first byte is `want`, by way of some arithmetic."""
    code = [(LD_B_ABS, 0, 0, 8)]  # behind the UDP header
    x = want
    for i in range(length):
        k = (i * 2654435761 + want) & 0xffff
        op = (ALU_ADD_K, ALU_XOR_K)[i & 1]
        code.append((op, 0, 0, k))
        x = (x + k if op == ALU_ADD_K else x ^ k) & 0xffffffff
        if i % 7 == 3:
            code += [(TAX, 0, 0, 0), (MISC_TXA, 0, 0, 0)]
    code += [(JEQ, 0, 1, x), (RET, 0, 0, 0xffff), (RET, 0, 0, 0)]
    return b''.join(struct.pack('HBBI', *c) for c in code)


def main():
    a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    b.bind(('127.0.0.1', 0))
    b.settimeout(5)
    for i in range(int(sys.argv[1])):
        want = i * 37 % 256
        raw = program(want, i % 90)
        buf = ctypes.create_string_buffer(raw)
        b.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack('HP', len(raw) // 8, ctypes.addressof(buf)))
        for first in ((want + 1) % 256, want ^ 0x80, want):
            a.sendto(bytes([first, i % 256]), b.getsockname())
        got = b.recv(10)
        if got != bytes([want, i % 256]):
            sys.exit(f'round {i}: {got} came through, not {want}')
        if i % 3 == 0:
            b.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, b'\0' * 4)
    print('all as expected')


main()
