/* list.c: `ruche list`: the VMs that run, asked one by one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/cmd.h"
#include "cmd/vms.h"

enum { LIST_TIMEOUT_MS = 2000, LIST_TEXT = 32 };

static pid_t list_holder(const char *name)
{
    struct rundir dir;
    pid_t pid = rundir_open(&dir, name) ? 0 : rundir_holder(&dir);

    rundir_close(&dir);
    return pid;
}

/* What it says of itself; of one that says nothing, what its folder tells. NULL: it has ended just now. */
static json_t *list_status(const char *name, pid_t pid)
{
    json_t *status = NULL;
    struct err e = { 0 };
    struct vms_vm vm;

    if (!vms_connect(&vm, name, &e)) {
        if (vms_call(&vm, "status", NULL, LIST_TIMEOUT_MS, &status, &e))
            status = NULL;
        vms_close(&vm);
    }
    if (status || list_holder(name) != pid)
        return status;
    /* It holds its name: before it listens, or while it closes its disks. */
    return json_pack("{s:s, s:s, s:i}", "name", name, "state",
                     e.code == ETIMEDOUT ? "no answer" : "changing", "pid", (int)pid);
}

/* An array of the status of each. */
static json_t *list_collect(struct err *e)
{
    json_t *list = json_array();
    struct rundir_names l;
    int rc = rundir_list(&l);

    if (rc) {
        err_set(e, -rc, "cannot read the folder of the VMs: %s", strerror(-rc));
        json_decref(list);
        return NULL;
    }
    for (size_t i = 0; i < l.n; i++) {
        pid_t pid = list_holder(l.name[i]);

        if (pid)
            json_array_append_new(list, list_status(l.name[i], pid));
    }
    rundir_names_free(&l);
    return list;
}

static const char *list_text(const json_t *vm, const char *member)
{
    const char *text = json_string_value(json_object_get(vm, member));

    return text ? text : "-";
}

static const char *list_size(uint64_t bytes, char *buf)
{
    static const char units[] = "KMGT";
    unsigned u = 0;

    if (!bytes)
        return "-";
    bytes /= KIB;
    while (bytes >= KIB && bytes % KIB == 0 && units[u + 1]) {
        bytes /= KIB;
        u++;
    }
    snprintf(buf, LIST_TEXT, "%llu%c", (unsigned long long)bytes, units[u]);
    return buf;
}

static const char *list_time(uint64_t ms, char *buf)
{
    uint64_t s = ms / 1000;

    if (s < 60)
        snprintf(buf, LIST_TEXT, "%us", (unsigned)s);
    else if (s < 3600)
        snprintf(buf, LIST_TEXT, "%um%us", (unsigned)(s / 60), (unsigned)(s % 60));
    else if (s < 86400)
        snprintf(buf, LIST_TEXT, "%uh%um", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
    else
        snprintf(buf, LIST_TEXT, "%llud%uh", (unsigned long long)(s / 86400),
                 (unsigned)(s / 3600 % 24));
    return buf;
}

static void list_print_table(const json_t *list)
{
    const json_t *vm;
    int width = 4;
    size_t i;

    json_array_foreach(list, i, vm)
    {
        int len = (int)strlen(list_text(vm, "name"));

        width = len > width ? len : width;
    }
    printf("%-*s  %-9s  %7s  %4s  %6s  %-5s  %7s  %s\n", width, "NAME", "STATE", "PID", "CPUS",
           "MEMORY", "ACCEL", "UPTIME", "DISPLAY");
    json_array_foreach(list, i, vm)
    {
        char memory[LIST_TEXT], uptime[LIST_TEXT];

        printf("%-*s  %-9s  %7d  %4d  %6s  %-5s  %7s  %s\n", width, list_text(vm, "name"),
               list_text(vm, "state"), (int)json_integer_value(json_object_get(vm, "pid")),
               (int)json_integer_value(json_object_get(vm, "cpus")),
               list_size((uint64_t)json_integer_value(json_object_get(vm, "memory")), memory),
               list_text(vm, "accel"),
               list_time((uint64_t)json_integer_value(json_object_get(vm, "uptime_ms")), uptime),
               list_text(vm, "display"));
    }
}

static void list_print_names(const json_t *list)
{
    const json_t *vm;
    size_t i;

    json_array_foreach(list, i, vm)
    {
        puts(list_text(vm, "name"));
    }
}

int cmd_list(int argc, char **argv)
{
    bool json = false, quiet = false;
    const struct arg_option options[] = { { "--json", .given = &json },
                                          { "--quiet", "-q", .given = &quiet } };
    struct err e = { 0 };
    json_t *list;
    int n, rc = args_words(argc, argv, options, ARRAY_SIZE(options), 0, 0, &n, &e);

    if (rc)
        return args_failed(rc, &e);
    list = list_collect(&e);
    if (!list)
        return cmd_fail(&e);
    if (json) {
        json_dumpf(list, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        putchar('\n');
    } else if (quiet) {
        list_print_names(list);
    } else {
        list_print_table(list);
    }
    json_decref(list);
    return CMD_OK;
}
