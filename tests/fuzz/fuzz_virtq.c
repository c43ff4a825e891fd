/*
 * A driver's rings of any bytes: what virtq_pop() hands out lies in RAM, and it comes to an end.
 * Input: one byte of flags, then the memory that holds descriptors, rings and indirect tables.
 */
#include "virtio/virtq.h"

#include "fuzz.h"

enum { FUZZ_RAM = 64 * KIB, FUZZ_SIZE = 16, FUZZ_DESC = 0, FUZZ_AVAIL = 0x100, FUZZ_USED = 0x140 };

static void fuzz_check(const struct ram_region *ram, const struct virtq_elem *el)
{
    uint64_t len = 0;

    for (unsigned i = 0; i < el->n_out + el->n_in; i++) {
        const uint8_t *p = el->iov[i].iov_base;

        BUG_ON(p < ram->hva || el->iov[i].iov_len > (size_t)(ram->hva + ram->len - p));
        len += el->iov[i].iov_len;
    }
    BUG_ON(len != el->out_len + el->in_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static uint8_t memory[FUZZ_RAM];
    struct ram_region ram = { .len = FUZZ_RAM, .hva = memory };
    struct physmap mem = { .region = { &ram }, .n = 1 };
    struct virtq q = { .mem = &mem, .max_size = FUZZ_SIZE };
    struct virtq_elem el;

    if (!len)
        return 0;
    memset(memory, 0, sizeof(memory));
    memcpy(memory, data + 1, min_u64(len - 1, sizeof(memory)));
    virtq_reset(&q);
    q.avail = FUZZ_AVAIL;
    q.used = FUZZ_USED;
    q.event_idx = data[0] & 1;
    q.indirect = data[0] & 2;
    q.ready = true;
    for (unsigned i = 0; i < 4 * FUZZ_SIZE && virtq_pop(&q, &el) == 1; i++) {
        fuzz_check(&ram, &el);
        virtq_push(&q, &el, 1);
        virtq_elem_fini(&el);
        virtq_should_notify(&q);
    }
    return 0;
}
