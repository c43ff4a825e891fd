/*
 * micro.c: runs one micro case and prints its checksum. usage: micro NAME N; without arguments: the names
 */
#include "micro.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct micro *const micro_tables[] = {
    micro_int, micro_mem, micro_fp, micro_simd, micro_os, micro_thread, micro_time,
};
enum { TABLES = sizeof(micro_tables) / sizeof(micro_tables[0]) };

_Noreturn void micro_die(const char *what)
{
    perror(what);
    exit(1);
}

static const struct micro *micro_find(const char *name)
{
    for (int i = 0; i < TABLES; i++)
        for (const struct micro *m = micro_tables[i]; m->name; m++)
            if (strcmp(m->name, name) == 0)
                return m;
    return NULL;
}

int main(int argc, char **argv)
{
    const struct micro *m;

    if (argc == 2 && strcmp(argv[1], "nothing") == 0) /* what the exec case starts */
        return 0;
    if (argc != 3) {
        for (int i = 0; i < TABLES; i++)
            for (m = micro_tables[i]; m->name; m++)
                puts(m->name);
        return 2;
    }
    m = micro_find(argv[1]);
    if (!m) {
        fprintf(stderr, "micro: no case %s\n", argv[1]);
        return 2;
    }
    printf("%s %llx\n", argv[1], (unsigned long long)m->run(strtoull(argv[2], NULL, 10)));
    return 0;
}
