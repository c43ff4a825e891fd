/*
 * config_json.c: struct vm_config to JSON and back. One table of members serves both directions, so
 * that none can be written and not read. Unknown members are refused: they are typing mistakes.
 */
#include "vm/config.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum config_kind { KIND_STRING, KIND_UINT, KIND_U64, KIND_U16, KIND_INT, KIND_BOOL, KIND_ADDR };

struct config_member {
    const char *name;
    enum config_kind kind;
    size_t offset;
};

#define MEMBER(type, kind, member)                                                                 \
    {                                                                                              \
#member, kind, offsetof(struct type, member)                                               \
    }

static const struct config_member vm_members[] = {
    MEMBER(vm_config, KIND_STRING, name),         MEMBER(vm_config, KIND_UINT, cpus),
    MEMBER(vm_config, KIND_U64, memory),          MEMBER(vm_config, KIND_STRING, accel),
    MEMBER(vm_config, KIND_STRING, cpu),          MEMBER(vm_config, KIND_STRING, kernel),
    MEMBER(vm_config, KIND_STRING, initrd),       MEMBER(vm_config, KIND_STRING, append),
    MEMBER(vm_config, KIND_STRING, net),          MEMBER(vm_config, KIND_STRING, serial),
    MEMBER(vm_config, KIND_STRING, console),      MEMBER(vm_config, KIND_STRING, gdb),
    MEMBER(vm_config, KIND_BOOL, gdb_wait),       MEMBER(vm_config, KIND_BOOL, no_reboot),
    MEMBER(vm_config, KIND_INT, debug_exit_port), MEMBER(vm_config, KIND_BOOL, test_device),
    MEMBER(vm_config, KIND_BOOL, no_sandbox),     MEMBER(vm_config, KIND_BOOL, perf_map),
    MEMBER(vm_config, KIND_STRING, perf_symbols), MEMBER(vm_config, KIND_STRING, firmware),
    MEMBER(vm_config, KIND_STRING, firmware_log), MEMBER(vm_config, KIND_STRING, uefi_vars),
    MEMBER(vm_config, KIND_STRING, display),      MEMBER(vm_config, KIND_STRING, display_password),
    MEMBER(vm_config, KIND_STRING, screenshot),   MEMBER(vm_config, KIND_STRING, boot_order),
    MEMBER(vm_config, KIND_STRING, usb),          MEMBER(vm_config, KIND_BOOL, usb_keyboard),
    MEMBER(vm_config, KIND_BOOL, boot_menu),      MEMBER(vm_config, KIND_STRING, on_io_error),
    MEMBER(vm_config, KIND_BOOL, any_name),       MEMBER(vm_config, KIND_STRING, net_model),
    MEMBER(vm_config, KIND_STRING, net_tftp),     MEMBER(vm_config, KIND_STRING, net_bootfile),
    MEMBER(vm_config, KIND_STRING, parallel),
};
static const struct config_member disk_members[] = {
    MEMBER(config_disk, KIND_STRING, path),     MEMBER(config_disk, KIND_STRING, format),
    MEMBER(config_disk, KIND_STRING, serial),   MEMBER(config_disk, KIND_STRING, bus),
    MEMBER(config_disk, KIND_BOOL, readonly),   MEMBER(config_disk, KIND_BOOL, cdrom),
    MEMBER(config_disk, KIND_STRING, cache),    MEMBER(config_disk, KIND_STRING, aio),
    MEMBER(config_disk, KIND_STRING, discard),  MEMBER(config_disk, KIND_STRING, detect_zeroes),
    MEMBER(config_disk, KIND_STRING, key_file), MEMBER(config_disk, KIND_STRING, on_io_error),
    MEMBER(config_disk, KIND_U64, iops),        MEMBER(config_disk, KIND_U64, iops_rd),
    MEMBER(config_disk, KIND_U64, iops_wr),     MEMBER(config_disk, KIND_U64, bps),
    MEMBER(config_disk, KIND_U64, bps_rd),      MEMBER(config_disk, KIND_U64, bps_wr),
    MEMBER(config_disk, KIND_U64, burst_ms),    MEMBER(config_disk, KIND_U64, timeout_ms),
};
static const struct config_member forward_members[] = {
    MEMBER(config_forward, KIND_BOOL, udp),
    MEMBER(config_forward, KIND_ADDR, host_addr),
    MEMBER(config_forward, KIND_U16, host_port),
    MEMBER(config_forward, KIND_U16, guest_port),
};

static json_t *config_member_to_json(const void *base, const struct config_member *m)
{
    const void *p = (const char *)base + m->offset;

    switch (m->kind) {
    case KIND_STRING: {
        const char *text = *(char *const *)p;

        return text ? json_string(text) : json_null();
    }
    case KIND_ADDR:
        return json_string(p);
    case KIND_UINT:
        return json_integer(*(const unsigned *)p);
    case KIND_U64:
        return json_integer((json_int_t) * (const uint64_t *)p);
    case KIND_U16:
        return json_integer(*(const uint16_t *)p);
    case KIND_INT:
        return json_integer(*(const int *)p);
    case KIND_BOOL:
        return json_boolean(*(const bool *)p);
    }
    return NULL;
}

static json_t *config_object(const void *base, const struct config_member *m, size_t n)
{
    json_t *o = json_object();

    for (size_t i = 0; i < n; i++)
        json_object_set_new(o, m[i].name, config_member_to_json(base, &m[i]));
    return o;
}

/* Sets *p to a copy of the string, or to NULL for null. */
static int config_load_string(char **p, const json_t *v, struct err *e)
{
    char *copy = NULL;

    if (!json_is_null(v)) {
        copy = strdup(json_string_value(v));
        if (!copy)
            return err_set(e, ENOMEM, "out of memory");
    }
    free(*p);
    *p = copy;
    return 0;
}

/* Range of the integer kinds; the JSON library has made sure of 64 signed bits. */
static bool config_in_range(enum config_kind kind, json_int_t n)
{
    switch (kind) {
    case KIND_U16:
        return n >= 0 && n <= UINT16_MAX;
    case KIND_UINT:
        return n >= 0 && n <= UINT32_MAX;
    case KIND_INT:
        return n >= INT32_MIN && n <= INT32_MAX;
    default:
        return n >= 0;
    }
}

static bool config_type_fits(const struct config_member *m, const json_t *v)
{
    switch (m->kind) {
    case KIND_STRING:
        return json_is_string(v) || json_is_null(v);
    case KIND_ADDR:
        return json_is_string(v) &&
               json_string_length(v) < sizeof(((struct config_forward *)NULL)->host_addr);
    case KIND_BOOL:
        return json_is_boolean(v);
    default:
        return json_is_integer(v) && config_in_range(m->kind, json_integer_value(v));
    }
}

static int config_member_from_json(void *base, const struct config_member *m, const json_t *v,
                                   struct err *e)
{
    void *p = (char *)base + m->offset;

    if (!config_type_fits(m, v))
        return err_set(e, EINVAL, "configuration: %s has a value of the wrong type or size",
                       m->name);
    switch (m->kind) {
    case KIND_STRING:
        return config_load_string(p, v, e);
    case KIND_ADDR:
        memcpy(p, json_string_value(v), json_string_length(v) + 1);
        return 0;
    case KIND_UINT:
        *(unsigned *)p = (unsigned)json_integer_value(v);
        return 0;
    case KIND_U64:
        *(uint64_t *)p = (uint64_t)json_integer_value(v);
        return 0;
    case KIND_U16:
        *(uint16_t *)p = (uint16_t)json_integer_value(v);
        return 0;
    case KIND_INT:
        *(int *)p = (int)json_integer_value(v);
        return 0;
    case KIND_BOOL:
        *(bool *)p = json_is_true(v);
        return 0;
    }
    return 0;
}

/* 1: the member was one of m's; 0: it is not; or -errno. */
static int config_find_member(void *base, const struct config_member *m, size_t n, const char *name,
                              const json_t *v, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(m[i].name, name)) {
            int r = config_member_from_json(base, &m[i], v, e);

            return r ? r : 1;
        }
    }
    return 0;
}

static int config_object_load(void *base, const struct config_member *m, size_t n, json_t *o,
                              const char *what, struct err *e)
{
    const char *name;
    json_t *v;

    if (!json_is_object(o))
        return err_set(e, EINVAL, "configuration: %s is not an object", what);
    json_object_foreach(o, name, v)
    {
        int r = config_find_member(base, m, n, name, v, e);

        if (r < 0)
            return r;
        if (!r)
            return err_set(e, EINVAL, "configuration: %s has no member %s", what, name);
    }
    return 0;
}

static int config_load_disks(struct vm_config *c, const json_t *array, struct err *e)
{
    if (!json_is_array(array) || json_array_size(array) > CONFIG_MAX_DISKS)
        return err_set(e, EINVAL, "configuration: disks is not a list of at most %d",
                       CONFIG_MAX_DISKS);
    for (size_t i = 0; i < json_array_size(array); i++) {
        struct config_disk *d = &c->disk[c->n_disks++];
        int r = config_object_load(d, disk_members, ARRAY_SIZE(disk_members),
                                   json_array_get(array, i), "a disk", e);

        if (r)
            return r;
        if (!d->path)
            return err_set(e, EINVAL, "configuration: a disk has no path");
    }
    return 0;
}

static int config_load_forwards(struct vm_config *c, const json_t *array, struct err *e)
{
    if (!json_is_array(array) || json_array_size(array) > CONFIG_MAX_FORWARDS)
        return err_set(e, EINVAL, "configuration: forwards is not a list of at most %d",
                       CONFIG_MAX_FORWARDS);
    for (size_t i = 0; i < json_array_size(array); i++) {
        int r = config_object_load(&c->forward[c->n_forwards++], forward_members,
                                   ARRAY_SIZE(forward_members), json_array_get(array, i),
                                   "a forward", e);

        if (r)
            return r;
    }
    return 0;
}

int config_parse_mac(const char *text, uint8_t mac[6])
{
    uint8_t out[6];

    if (strlen(text) != 17)
        return -EINVAL;
    for (unsigned i = 0; i < 6; i++) {
        char digits[3] = { text[3 * i], text[3 * i + 1], 0 };
        char *end;

        if (i < 5 && text[3 * i + 2] != ':')
            return -EINVAL;
        if (strspn(digits, "0123456789abcdefABCDEF") != 2)
            return -EINVAL;
        out[i] = (uint8_t)strtoul(digits, &end, 16);
    }
    memcpy(mac, out, sizeof(out));
    return 0;
}

static int config_load_mac(struct vm_config *c, const json_t *v, struct err *e)
{
    if (!json_is_string(v) || config_parse_mac(json_string_value(v), c->mac))
        return err_set(e, EINVAL, "configuration: mac is not a MAC address");
    return 0;
}

char *config_to_json(const struct vm_config *c)
{
    json_t *o = config_object(c, vm_members, ARRAY_SIZE(vm_members));
    json_t *disks = json_array(), *forwards = json_array();
    char mac[18], *text;

    for (unsigned i = 0; i < c->n_disks; i++)
        json_array_append_new(disks,
                              config_object(&c->disk[i], disk_members, ARRAY_SIZE(disk_members)));
    for (unsigned i = 0; i < c->n_forwards; i++)
        json_array_append_new(
            forwards, config_object(&c->forward[i], forward_members, ARRAY_SIZE(forward_members)));
    snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", c->mac[0], c->mac[1], c->mac[2],
             c->mac[3], c->mac[4], c->mac[5]);
    json_object_set_new(o, "mac", json_string(mac));
    json_object_set_new(o, "disks", disks);
    json_object_set_new(o, "forwards", forwards);
    text = json_dumps(o, JSON_INDENT(2));
    json_decref(o);
    return text;
}

static int config_load_top(struct vm_config *c, json_t *o, struct err *e)
{
    const char *name;
    json_t *v;
    int r;

    json_object_foreach(o, name, v)
    {
        if (!strcmp(name, "disks"))
            r = config_load_disks(c, v, e);
        else if (!strcmp(name, "forwards"))
            r = config_load_forwards(c, v, e);
        else if (!strcmp(name, "mac"))
            r = config_load_mac(c, v, e);
        else
            r = config_find_member(c, vm_members, ARRAY_SIZE(vm_members), name, v, e);
        if (r < 0)
            return r;
        if (!r && strcmp(name, "disks") && strcmp(name, "forwards") && strcmp(name, "mac"))
            return err_set(e, EINVAL, "configuration: there is no member %s", name);
    }
    if (!c->name || !c->accel || !c->cpu || !c->net || !c->serial || !c->console)
        return err_set(e, EINVAL,
                       "configuration: name, accel, cpu, net, serial and console must not be null");
    return 0;
}

int config_from_json(struct vm_config *c, const char *json, struct err *e)
{
    json_error_t je;
    json_t *o = json_loads(json, JSON_REJECT_DUPLICATES, &je);
    int r;

    config_init(c);
    if (!o)
        return err_set(e, EINVAL, "configuration: line %d: %s", je.line, je.text);
    r = json_is_object(o) ? config_load_top(c, o, e)
                          : err_set(e, EINVAL, "configuration: not an object");
    json_decref(o);
    return r;
}
