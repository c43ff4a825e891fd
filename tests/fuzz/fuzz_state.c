/*
 * fuzz_state.c: the state loader against bytes of anybody's making: every section, field kind and
 * end.
 */
#include "state/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct state s;
    uint8_t bytes[16];
    uint64_t v64 = 0;
    uint32_t v32 = 0;
    uint8_t v8 = 0;
    bool flag = false;

    state_init_load(&s, data, size);
    while (!state_error(&s)) {
        state_begin(&s, "chip", "chip0", 2);
        state_u8(&s, &v8);
        state_u32(&s, &v32);
        state_u64(&s, &v64);
        state_bool(&s, &flag);
        state_bytes(&s, bytes, sizeof(bytes));
        state_end(&s);
    }
    return 0;
}
