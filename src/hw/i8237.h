/*
 * i8237.h: the two DMA controllers of a PC: channels 0 to 3 move bytes, 5 to 7 words (4 is the cascade), between
 * a device and the first 16 MiB of guest memory.
 *
 * Threads: registers from any vCPU; i8237_transfer() from any thread, with the device's lock held.
 */
#ifndef HW_I8237_H
#define HW_I8237_H

#include "bus/bus.h"

struct i8237;
struct i8237_at {
    uint16_t low, high; /* registers of the controllers: 16 ports; 16 with a step of 2 */
    uint16_t page;      /* the 15 ports of the page registers */
};

struct i8237 *i8237_create(struct vm *vm, const struct i8237_at *at, struct err *e);
/*
 * Who waits for channel: work is posted to the loop when the guest has made it able to move data. The device's
 * memory; it takes the work back before it goes. Before the vCPUs run.
 */
void i8237_connect(struct i8237 *dma, unsigned channel, struct loop_work *work);
/*
 * The device asks for a transfer, to or from memory: how many of len bytes were moved, 0 if the channel is not
 * ready for that. *end: it has counted down (terminal count). What lies outside of RAM reads as ones. A channel
 * that is to verify counts, and buf stays as it is.
 */
unsigned i8237_transfer(struct i8237 *dma, unsigned channel, void *buf, unsigned len,
                        bool to_memory, bool *end);

#endif
