/*
 * testdev.h: the test device that kernel test suites know from QEMU as pc-testdev: interrupt lines to
 * raise by hand, a port and a page that echo. Only with --test-device.
 */
#ifndef HW_TESTDEV_H
#define HW_TESTDEV_H

#include "bus/bus.h"

enum { TESTDEV_LINES = 24 };

struct testdev;
struct testdev_at {
    uint16_t lines; /* TESTDEV_LINES ports: a byte written to line + n is that line's level */
    uint16_t echo;  /* 4 ports: what was written is read back */
    uint16_t flush; /* 4 ports: the guest asks for a page's translation to be forgotten */
    uint64_t mmio;  /* 64 KiB of registers that echo, so that instructions meet MMIO operands */
};

/* lines: where they lead; copied. */
struct testdev *testdev_create(struct vm *vm, const struct testdev_at *at,
                               const struct irq lines[TESTDEV_LINES], struct err *e);

#endif
