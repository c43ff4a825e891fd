/*
 * fuzz_config.c: descriptors and command lines of any bytes. What is accepted as JSON must survive being
 * written and read again.
 *
 * Input: what it is, then the text; a command line's arguments are separated by line feeds.
 */
#include "fuzz.h"

#include <stdio.h>

#include "cmd/cmd.h"
#include "cmd/options.h"

enum { MAX_ARGS = 64, TEXT_MAX = 8 * KIB };
enum { JSON, OPTIONS, SIZE, MAC, SUGGEST, KINDS };

static void fuzz_config_json(const char *text)
{
    struct vm_config c, again;
    struct err e = { 0 };
    char *one, *two;

    if (config_from_json(&c, text, &e)) {
        BUG_ON(!e.msg[0] || !e.code);
        config_fini(&c);
        return;
    }
    one = config_to_json(&c);
    BUG_ON(!one || config_from_json(&again, one, &e) != 0);
    two = config_to_json(&again);
    BUG_ON(!two || strcmp(one, two) != 0);
    free(one);
    free(two);
    BUG_ON(config_check(&c, &e) != 0 && !e.msg[0]);
    config_fini(&again);
    config_fini(&c);
}

static void fuzz_config_options(char *text)
{
    struct options o;
    struct err e = { 0 };
    char *argv[MAX_ARGS + 1] = { "run" };
    int argc = 1;

    while (text && argc < MAX_ARGS)
        argv[argc++] = strsep(&text, "\n");
    argv[argc] = NULL;
    BUG_ON(options_parse(&o, argc, argv, &e) != 0 && !e.msg[0]);
    options_fini(&o);
}

static void fuzz_config_suggest(const char *text)
{
    static const char *const known[] = { "run", "doctor", "help", "version", "--memory" };

    cmd_suggest(text, known, ARRAY_SIZE(known));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_confine();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in = { data, len };
    unsigned kind = fuzz_u8(&in) % KINDS;
    char *text = calloc(1, min_u64(in.len, TEXT_MAX) + 1);
    uint64_t bytes;
    uint8_t mac[6];

    BUG_ON(!text);
    fuzz_bytes(&in, text, min_u64(in.len, TEXT_MAX));
    if (kind == JSON)
        fuzz_config_json(text);
    else if (kind == OPTIONS)
        fuzz_config_options(text);
    else if (kind == SIZE)
        BUG_ON(util_parse_size(text, &bytes) > 0);
    else if (kind == MAC)
        BUG_ON(config_parse_mac(text, mac) > 0);
    else
        fuzz_config_suggest(text);
    free(text);
    return 0;
}
