/*
 * fuzz_config.c: a VM's configuration from JSON of anybody's making; what is taken must come back the same.
 */
#include <string.h>

#include "vm/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *json = calloc(1, size + 1), *again;
    struct vm_config c, d;
    struct err e = { 0 };

    memcpy(json, data, size);
    if (!config_from_json(&c, json, &e)) {
        again = config_to_json(&c);
        BUG_ON(!again || config_from_json(&d, again, &e));
        config_fini(&d);
        free(again);
    }
    config_fini(&c);
    free(json);
    return 0;
}
