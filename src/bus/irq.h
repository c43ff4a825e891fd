/*
 * irq.h: an interrupt wire: a copyable value that knows the chip at its other end. Any thread;
 * callers may hold their device lock (the chip takes its own).
 */
#ifndef BUS_IRQ_H
#define BUS_IRQ_H

#include "base/util.h"

struct irq {
    void (*set)(void *chip, unsigned pin, bool level); /* NULL: not connected */
    void *chip;
    unsigned pin;
};

static inline void irq_set(const struct irq *irq, bool level)
{
    if (irq->set)
        irq->set(irq->chip, irq->pin, level);
}

#endif
