#include "cmd/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/endian.h"
#include "cmd/cmd.h"
#include "cmd/options_disk.h"

/* --- one setter an option --- */

static int options_string(char **where, const char *value, struct err *e)
{
    char *copy = strdup(value);

    if (!copy)
        return err_set(e, ENOMEM, "out of memory");
    free(*where);
    *where = copy;
    return 0;
}

/* A decimal (or, for ports, 0x) number up to max. */
static int options_number(unsigned long *n, const char *text, int base, unsigned long max)
{
    char *end;

    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    *n = strtoul(text, &end, base);
    return errno || *end || *n > max ? -EINVAL : 0;
}

static int options_name(struct options *o, const char *value, struct err *e)
{
    o->config.any_name = false;
    return options_string(&o->config.name, value, e);
}

static int options_cpus(struct options *o, const char *value, struct err *e)
{
    unsigned long n;

    if (!strncmp(value, "cpus=", 5)) /* QEMU's long form */
        value += 5;
    if (options_number(&n, value, 10, 1000000))
        return err_set(e, EINVAL, "--cpus %s: not a number of CPUs", value);
    o->config.cpus = (unsigned)n;
    return 0;
}

static int options_memory(struct options *o, const char *value, struct err *e)
{
    unsigned long mib;

    if (!options_number(&mib, value, 10, UINT32_MAX)) {
        o->config.memory = (uint64_t)mib * MIB;
        return 0;
    }
    switch (util_parse_size(value, &o->config.memory)) {
    case 0:
        return 0;
    case -ERANGE:
        return err_set(e, EINVAL, "--memory %s: no machine has that much", value);
    default:
        return err_set(e, EINVAL, "--memory %s: not a size; write it like 512M or 2G", value);
    }
}

static int options_accel(struct options *o, const char *value, struct err *e)
{
    return options_string(&o->config.accel, value, e);
}

static int options_cpu(struct options *o, const char *value, struct err *e)
{
    return options_string(&o->config.cpu, value, e);
}

static int options_kernel(struct options *o, const char *value, struct err *e)
{
    return options_string(&o->config.kernel, value, e);
}

static int options_initrd(struct options *o, const char *value, struct err *e)
{
    return options_string(&o->config.initrd, value, e);
}

static int options_append(struct options *o, const char *value, struct err *e)
{
    return options_string(&o->config.append, value, e);
}

static int options_firmware(struct options *o, const char *value, struct err *e)
{
    return options_string(&o->config.firmware, value, e);
}

static int options_uefi_vars(struct options *o, const char *value, struct err *e)
{
    return options_string(&o->config.uefi_vars, value, e);
}

static int options_firmware_log(struct options *o, const char *value, struct err *e)
{
    return options_string(&o->config.firmware_log, value, e);
}

static int options_chipset(struct options *o, const char *value, struct err *e)
{
    (void)o;
    if (strcmp(value, "pc"))
        return err_set(e, EINVAL, "--chipset %s: there is no such machine; known: pc", value);
    return 0;
}

/* Cuts the next item off a list of items between commas; ",," stands for a comma. NULL at the end. */
static char *options_item(char **list)
{
    char *start = *list, *in = start, *out = start;

    if (!start)
        return NULL;
    while (*in && (*in != ',' || in[1] == ',')) {
        if (*in == ',')
            in++;
        *out++ = *in++;
    }
    *list = *in ? in + 1 : NULL;
    *out = '\0';
    return start;
}

static int options_boot(struct options *o, const char *value, struct err *e)
{
    char *list = strdup(value), *rest = list, *item;
    int r = list ? 0 : err_set(e, ENOMEM, "out of memory");

    while (!r && (item = options_item(&rest))) {
        if (!strcmp(item, "menu") || !strcmp(item, "menu=on"))
            o->config.boot_menu = true;
        else if (!strncmp(item, "order=", 6))
            r = options_string(&o->config.boot_order, item + 6, e);
        else
            r = err_set(e, EINVAL,
                        "--boot: what is \"%s\"? Known: order=LETTERS (a floppy, c disk, d CD, n "
                        "network), menu",
                        item);
    }
    free(list);
    return r;
}

static int options_disk_item(struct config_disk *d, const char *item, struct err *e)
{
    int r = options_disk_io(d, item, e);

    if (r)
        return r < 0 ? r : 0;
    if (!strncmp(item, "format=", 7))
        return options_string(&d->format, item + 7, e);
    if (!strncmp(item, "serial=", 7))
        return options_string(&d->serial, item + 7, e);
    if (!strncmp(item, "bus=", 4))
        return options_string(&d->bus, item + 4, e);
    if (!strcmp(item, "readonly") || !strcmp(item, "ro")) {
        d->readonly = true;
        return 0;
    }
    return err_set(e, EINVAL,
                   "--disk: what is \"%s\"? After the file come format=raw, readonly, serial=TEXT, "
                   "bus=virtio|ide|ahci|nvme|scsi|usb, " OPTIONS_DISK_IO
                   " (a comma in the file's name is written ,,)",
                   item);
}

/* The next free one: NULL with a sentence, if there is none. */
static struct config_disk *options_new_disk(struct options *o, const char *option, struct err *e)
{
    if (o->config.n_disks < CONFIG_MAX_DISKS)
        return &o->config.disk[o->config.n_disks++];
    err_set(e, EINVAL, "%s: a VM has at most %d disks, CDs and floppies", option, CONFIG_MAX_DISKS);
    return NULL;
}

/* A disk like others, too. */
static int options_floppy(struct options *o, const char *value, struct err *e)
{
    struct config_disk *d = options_new_disk(o, "--floppy", e);
    char *list = strdup(value), *rest = list, *item;
    int r = d ? 0 : -EINVAL;

    if (!r && !list)
        r = err_set(e, ENOMEM, "out of memory");
    if (!r)
        r = options_string(&d->bus, "floppy", e);
    if (!r && !*value)
        r = err_set(e, EINVAL, "--floppy: no file given");
    if (!r)
        r = options_string(&d->path, options_item(&rest), e);
    while (!r && (item = options_item(&rest))) {
        if (!strncmp(item, "bus=", 4) || !strncmp(item, "serial=", 7))
            r = err_set(e, EINVAL, "--floppy: a floppy has no %s", item);
        else
            r = options_disk_item(d, item, e);
    }
    if (!r && !d->format) /* nothing in a boot sector says what it is */
        r = options_string(&d->format, "raw", e);
    free(list);
    return r;
}

static int options_disk(struct options *o, const char *value, struct err *e)
{
    struct config_disk *d = &o->config.disk[o->config.n_disks];
    char *list, *rest, *item;
    int r;

    if (o->config.n_disks == CONFIG_MAX_DISKS)
        return err_set(e, EINVAL, "--disk: a VM has at most %d disks", CONFIG_MAX_DISKS);
    list = rest = strdup(value);
    if (!list)
        return err_set(e, ENOMEM, "out of memory");
    o->config.n_disks++;
    item = options_item(&rest);
    r = *item ? options_string(&d->path, item, e) : err_set(e, EINVAL, "--disk: no file given");
    while (!r && (item = options_item(&rest)))
        r = options_disk_item(d, item, e);
    free(list);
    return r;
}

static int options_on_io_error(struct options *o, const char *value, struct err *e)
{
    return options_string(&o->config.on_io_error, value, e);
}

/* "FILE,bus=WORD": the word, cut off the file's name; NULL: there is none, and commas are the name's. */
static const char *options_cdrom_bus(char *path)
{
    char *comma = strrchr(path, ',');

    if (!comma || strncmp(comma, ",bus=", 5))
        return NULL;
    *comma = '\0';
    return comma + 5;
}

/* A disk like others, for what comes after the parsing. */
static int options_cdrom(struct options *o, const char *value, struct err *e)
{
    struct config_disk *d = &o->config.disk[o->config.n_disks];
    const char *bus;
    int r;

    if (o->config.n_disks == CONFIG_MAX_DISKS)
        return err_set(e, EINVAL, "--cdrom: a VM has at most %d disks and CDs", CONFIG_MAX_DISKS);
    if (!*value)
        return err_set(e, EINVAL, "--cdrom: no file given");
    o->config.n_disks++;
    d->cdrom = d->readonly = true;
    r = options_string(&d->path, value, e);
    if (r)
        return r;
    bus = options_cdrom_bus(d->path);
    return options_string(&d->bus, bus ? bus : "ide", e);
}

static int options_net_item(struct options *o, const char *item, struct err *e)
{
    if (!strncmp(item, "model=", 6))
        return options_string(&o->config.net_model, item + 6, e);
    if (!strncmp(item, "tftp=", 5))
        return options_string(&o->config.net_tftp, item + 5, e);
    if (!strncmp(item, "bootfile=", 9))
        return options_string(&o->config.net_bootfile, item + 9, e);
    if (strncmp(item, "mac=", 4))
        return err_set(e, EINVAL,
                       "--net: what is \"%s\"? Known: model=" CONFIG_NET_MODELS
                       ", mac=52:54:00:12:34:56, tftp=DIR, bootfile=FILE|URL",
                       item);
    if (config_parse_mac(item + 4, o->config.mac))
        return err_set(e, EINVAL, "--net: %s is not an address like mac=52:54:00:12:34:56", item);
    o->mac_given = true;
    return 0;
}

static int options_net(struct options *o, const char *value, struct err *e)
{
    char *list = strdup(value), *rest = list, *item;
    int r;

    if (!list)
        return err_set(e, ENOMEM, "out of memory");
    r = options_string(&o->config.net, options_item(&rest), e);
    while (!r && (item = options_item(&rest)))
        r = options_net_item(o, item, e);
    free(list);
    return r;
}

static int options_publish(struct options *o, const char *value, struct err *e)
{
    struct config_forward *f = &o->config.forward[o->config.n_forwards];
    unsigned long host_port, guest_port;
    char text[128], local[] = "127.0.0.1", *guest, *host, *addr = text;

    if (o->config.n_forwards == CONFIG_MAX_FORWARDS)
        return err_set(e, EINVAL, "-p: at most %d ports can be forwarded", CONFIG_MAX_FORWARDS);
    if (strlen(value) >= sizeof(text))
        return err_set(e, EINVAL, "-p: %s is too long", value);
    memcpy(text, value, strlen(value) + 1);
    f->udp = !strncmp(text, "udp:", 4);
    if (f->udp || !strncmp(text, "tcp:", 4))
        addr += 4;
    guest = strrchr(addr, ':');
    if (guest)
        *guest++ = '\0';
    host = strrchr(addr, ':');
    if (host)
        *host++ = '\0';
    if (!guest || options_number(&guest_port, guest, 10, 65535) ||
        options_number(&host_port, host ? host : addr, 10, 65535))
        return err_set(e, EINVAL, "-p %s: write [tcp:|udp:][ADDR:]HOSTPORT:GUESTPORT, like 8080:80",
                       value);
    if (!host || !*addr)
        addr = local;
    if (strlen(addr) >= sizeof(f->host_addr))
        return err_set(e, EINVAL, "-p: %s is not an address", addr);
    memcpy(f->host_addr, addr, strlen(addr) + 1);
    f->host_port = (uint16_t)host_port;
    f->guest_port = (uint16_t)guest_port;
    o->config.n_forwards++;
    return 0;
}

static int options_serial(struct options *o, const char *value, struct err *e)
{
    return options_string(&o->config.serial, value, e);
}

static int options_console(struct options *o, const char *value, struct err *e)
{
    return options_string(&o->config.console, value, e);
}

static int options_parallel(struct options *o, const char *value, struct err *e)
{
    return options_string(&o->config.parallel, value, e);
}

static int options_user(struct options *o, const char *value, struct err *e)
{
    (void)e;
    o->seed.user = value;
    return 0;
}

static int options_ssh_key(struct options *o, const char *value, struct err *e)
{
    (void)e;
    o->seed.ssh_key = value;
    return 0;
}

static int options_hostname(struct options *o, const char *value, struct err *e)
{
    (void)e;
    o->seed.hostname = value;
    return 0;
}

static int options_cloud_init(struct options *o, const char *value, struct err *e)
{
    (void)e;
    o->seed.cloud_init = value;
    return 0;
}

static int options_gdb(struct options *o, const char *value, struct err *e)
{
    char *list = strdup(value), *rest = list, *item, *addr;
    int r;

    if (!list)
        return err_set(e, ENOMEM, "out of memory");
    addr = options_item(&rest);
    if (!strncmp(addr, "tcp:", 4)) /* QEMU's form: tcp:HOST:PORT, tcp::PORT */
        addr += 4;
    r = options_string(&o->config.gdb, addr, e);
    while (!r && (item = options_item(&rest))) {
        if (!strcmp(item, "wait"))
            o->config.gdb_wait = true;
        else
            r = err_set(e, EINVAL,
                        "--gdb: what is \"%s\"? After the address comes wait (a comma in a path is "
                        "written ,,)",
                        item);
    }
    free(list);
    return r;
}

/* Eight characters without those that look alike: all that the protocol looks at. */
int options_make_password(char **password, struct err *e)
{
    static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";
    uint8_t random[8];
    char text[sizeof(random) + 1] = "";

    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        return err_set(e, errno, "the host has no random numbers: %s", strerror(errno));
    for (unsigned i = 0; i < sizeof(random); i++)
        text[i] = letters[random[i] % (sizeof(letters) - 1)];
    return options_string(password, text, e);
}

static int options_screen_password(char **password, struct err *e)
{
    int r = options_make_password(password, e);

    if (!r)
        fprintf(stderr, "ruche: the screen's password is %s\n", *password);
    return r;
}

static int options_display(struct options *o, const char *value, struct err *e)
{
    char *list = strdup(value), *rest = list, *item;
    int r;

    if (!list)
        return err_set(e, ENOMEM, "out of memory");
    r = options_string(&o->config.display, options_item(&rest), e);
    while (!r && (item = options_item(&rest))) {
        if (!strcmp(item, "password"))
            r = options_screen_password(&o->config.display_password, e);
        else if (!strncmp(item, "password=", 9) && item[9])
            r = options_string(&o->config.display_password, item + 9, e);
        else
            r = err_set(e, EINVAL,
                        "--display: what is \"%s\"? After the address comes password or "
                        "password=TEXT",
                        item);
    }
    free(list);
    return r;
}

static int options_screenshot(struct options *o, const char *value, struct err *e)
{
    return options_string(&o->config.screenshot, value, e);
}

static int options_usb(struct options *o, const char *value, struct err *e)
{
    char *list = strdup(value), *rest = list, *item;
    int r;

    if (!list)
        return err_set(e, ENOMEM, "out of memory");
    r = options_string(&o->config.usb, options_item(&rest), e);
    while (!r && (item = options_item(&rest))) {
        if (!strcmp(item, "keyboard"))
            o->config.usb_keyboard = true;
        else
            r = err_set(e, EINVAL, "--usb: what is \"%s\"? After the controller comes keyboard",
                        item);
    }
    free(list);
    return r;
}

static int options_no_reboot(struct options *o, const char *value, struct err *e)
{
    (void)value, (void)e;
    o->config.no_reboot = true;
    return 0;
}

static int options_debug_exit(struct options *o, const char *value, struct err *e)
{
    unsigned long port;

    if (options_number(&port, value, 0, 0xffff))
        return err_set(e, EINVAL, "--debug-exit %s: not an I/O port (0 to 0xffff)", value);
    o->config.debug_exit_port = (int)port;
    return 0;
}

static int options_test_device(struct options *o, const char *value, struct err *e)
{
    (void)value, (void)e;
    o->config.test_device = true;
    return 0;
}

static int options_perf_map(struct options *o, const char *value, struct err *e)
{
    o->config.perf_map = true;
    return value ? options_string(&o->config.perf_symbols, value, e) : 0;
}

static int options_no_sandbox(struct options *o, const char *value, struct err *e)
{
    (void)value, (void)e;
    o->config.no_sandbox = true;
    return 0;
}

static int options_dry_run(struct options *o, const char *value, struct err *e)
{
    (void)value, (void)e;
    o->dry_run = true;
    return 0;
}

static int options_help(struct options *o, const char *value, struct err *e)
{
    (void)value, (void)e;
    o->help = true;
    return 0;
}

/* --- the table and its reading --- */

const struct option_spec options_list[] = {
#define OPTION(name, alias, arg, set, completion, help) { name, alias, arg, completion, help, set },
#include "cmd/options.def"
#undef OPTION
};
const size_t options_count = ARRAY_SIZE(options_list);

/* The option that text (dashes and all, up to an '=') names. */
static const struct option_spec *options_find(const char *text)
{
    size_t dashes = text[1] == '-' ? 2 : 1;
    size_t len = strcspn(text + dashes, "=");

    for (size_t i = 0; i < options_count; i++) {
        const struct option_spec *s = &options_list[i];
        bool long_name = dashes == 2 && strlen(s->name) == len;

        if (long_name && !strncmp(text + 2, s->name, len))
            return s;
        if (len && strlen(s->alias) == len && !strncmp(text + dashes, s->alias, len))
            return s;
    }
    return NULL;
}

static int options_unknown(const char *text, struct err *e)
{
    const char *names[ARRAY_SIZE(options_list)], *near;
    char typed[64];

    for (size_t i = 0; i < options_count; i++)
        names[i] = options_list[i].name;
    snprintf(typed, sizeof(typed), "%.*s", (int)strcspn(text, "="), text);
    near = cmd_suggest(typed + strspn(typed, "-"), names, options_count);
    if (near)
        return err_set(e, EINVAL, "there is no option %s; did you mean --%s?", typed, near);
    return err_set(e, EINVAL, "there is no option %s; `ruche run --help` lists them", typed);
}

/* Is the whole argument in brackets? */
static bool options_may_lack(const struct option_spec *s)
{
    return s->arg[0] == '[' && !strchr(s->arg, ']')[1];
}

/* Reads the option at argv[*i] and moves *i past it and its argument. */
static int options_one(struct options *o, int argc, char **argv, int *i, struct err *e)
{
    const char *text = argv[(*i)++], *equals, *value = NULL;
    const struct option_spec *s;

    if (text[0] != '-' && *text && !o->image) {
        o->image = text;
        return 0;
    }
    if (text[0] != '-' || !text[1])
        return err_set(e, EINVAL,
                       "what is \"%s\"? Options begin with --; a kernel is given with "
                       "--kernel FILE",
                       text);
    s = options_find(text);
    if (!s)
        return options_unknown(text, e);
    equals = strchr(text, '=');
    if (!*s->arg && equals)
        return err_set(e, EINVAL, "--%s takes no value", s->name);
    if (*s->arg) {
        bool may_lack = options_may_lack(s);

        if (equals)
            value = equals + 1;
        else if (*i < argc && !(may_lack && argv[*i][0] == '-'))
            value = argv[(*i)++];
        if (!value && !may_lack)
            return err_set(e, EINVAL, "--%s needs a value: --%s %s", s->name, s->name, s->arg);
    }
    return s->set(o, value, e);
}

/* Is it a Linux bzImage ("HdrS" at 0x202, Linux boot protocol)? */
static bool options_is_linux(const char *path)
{
    uint8_t magic[4] = { 0 };
    FILE *f = fopen(path, "rbe");
    bool is;

    if (!f)
        return false;
    is = !fseek(f, 0x202, SEEK_SET) && fread(magic, sizeof(magic), 1, f) == 1 &&
         ld_le32(magic) == 0x53726448;
    fclose(f);
    return is;
}

/* A MAC address that is the same at every start and another for another name (FNV-1a). */
static void options_derive_mac(struct vm_config *c)
{
    uint32_t hash = 2166136261u;

    for (const char *p = c->name; *p; p++)
        hash = (hash ^ (uint8_t)*p) * 16777619u;
    for (unsigned i = 0; i < 3; i++)
        c->mac[3 + i] = (uint8_t)(hash >> (8 * i));
}

/* The first disk is the root, as Linux names it. */
static int options_linux_append(struct options *o, struct err *e)
{
    const struct vm_config *c = &o->config;
    char text[64];

    for (unsigned i = 0; i < c->n_disks; i++) {
        if (!config_disk_is_hard(&c->disk[i]))
            continue;
        snprintf(text, sizeof(text), "console=ttyS0 root=%s rw",
                 config_disk_linux_root(&c->disk[i]));
        return options_append(o, text, e);
    }
    return options_append(o, "console=ttyS0", e);
}

/* A VM has its image's name if it is given no other. */
static int options_image_name(struct options *o, struct err *e)
{
    int r;

    if (!o->image || !o->config.any_name)
        return 0;
    o->config.any_name = false;
    r = options_string(&o->config.name, o->image, e);
    for (char *p = r ? NULL : strchr(o->config.name, ':'); p; p = strchr(p, ':'))
        *p = '-';
    return r;
}

/* Makes room at `at` for a disk that is a file. */
static int options_put_disk(struct options *o, unsigned at, const char *path, const char *format,
                            struct err *e)
{
    struct config_disk d = { 0 };
    int r;

    if (o->config.n_disks == CONFIG_MAX_DISKS)
        return err_set(e, EINVAL, "--disk: a VM has at most %d disks", CONFIG_MAX_DISKS);
    r = options_string(&d.path, path, e);
    if (!r)
        r = options_string(&d.format, format, e);
    if (r) {
        free(d.path);
        return r;
    }
    memmove(&o->config.disk[at + 1], &o->config.disk[at], (o->config.n_disks - at) * sizeof(d));
    o->config.disk[at] = d;
    o->config.n_disks++;
    return 0;
}

int options_first_disk(struct options *o, const char *path, const char *format, struct err *e)
{
    return options_put_disk(o, 0, path, format, e);
}

int options_last_disk(struct options *o, const char *path, const char *format, struct err *e)
{
    unsigned at = o->config.n_disks;
    int r = options_put_disk(o, at, path, format, e);

    if (!r)
        o->config.disk[at].readonly = true;
    return r;
}

/* Who names a file for UEFI variables wants UEFI. */
static bool options_keeps_vars(const struct vm_config *c)
{
    return c->uefi_vars && strcmp(c->uefi_vars, "none");
}

int options_parse(struct options *o, int argc, char **argv, struct err *e)
{
    struct vm_config *c = &o->config;

    *o = (struct options){ 0 };
    config_init(c);
    for (int i = 1; i < argc;) {
        int r = options_one(o, argc, argv, &i, e);

        if (r)
            return r;
    }
    if (options_image_name(o, e))
        return -ENOMEM;
    if (!o->mac_given)
        options_derive_mac(c);
    if (!c->kernel && !c->firmware && (c->n_disks || o->image) &&
        options_firmware(o, options_keeps_vars(c) ? "uefi" : "auto", e))
        return -ENOMEM;
    if (!c->append && c->kernel && options_is_linux(c->kernel))
        return options_linux_append(o, e);
    return 0;
}

void options_fini(struct options *o)
{
    config_fini(&o->config);
}

/* The help text in lines of at most 78 columns, indented. */
static void options_print_wrapped(FILE *f, const char *text)
{
    enum { INDENT = 8, WIDTH = 78 };
    size_t column = 0;

    while (*text) {
        size_t word = strcspn(text, " ");

        if (column && column + 1 + word > WIDTH) {
            fputc('\n', f);
            column = 0;
        }
        column += (size_t)(column ? fprintf(f, " ") : fprintf(f, "%*s", INDENT, ""));
        column += (size_t)fprintf(f, "%.*s", (int)word, text);
        text += word + strspn(text + word, " ");
    }
    fputc('\n', f);
}

void options_print_help(FILE *f)
{
    fprintf(f, "Usage: ruche run NAME|--disk FILE|--kernel FILE [OPTION...]\n\n"
               "Boots a virtual machine in the foreground. Its serial port is this terminal;\n"
               "Ctrl-] leaves (Ctrl-] twice sends one to the guest).\n\nOptions:\n");
    for (size_t i = 0; i < options_count; i++) {
        const struct option_spec *s = &options_list[i];

        fprintf(f, "  --%s%s%s", s->name, *s->arg ? " " : "", s->arg);
        if (*s->alias)
            fprintf(f, "  [-%s]", s->alias);
        fputc('\n', f);
        options_print_wrapped(f, s->help);
    }
    fprintf(f, "\nExit status:\n");
#define STATUS(name, value, text) fprintf(f, "  %3d  %s\n", value, text);
#include "cmd/status.def"
#undef STATUS
    fprintf(f, "  odd  the guest wrote v to the --debug-exit port: (v << 1) | 1\n"
               "  128+N  Ruche was ended by signal N\n");
}
