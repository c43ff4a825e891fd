#include "vm/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/sock.h"
#include "control/rundir.h"

enum { CONFIG_MEMORY_MIN = 2 * MIB };

/* Parts of the config are strdup'ed later too, so that config_fini() can free them all alike. */
void config_init(struct vm_config *c)
{
    static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };

    *c = (struct vm_config){
        .name = strdup("vm"),
        .any_name = true,
        .cpus = 1,
        .memory = GIB,
        .accel = strdup("auto"),
        .cpu = strdup("host"),
        .net = strdup("user"),
        .serial = strdup("stdio"),
        .console = strdup("none"),
        .debug_exit_port = -1,
    };
    memcpy(c->mac, mac, sizeof(mac));
    BUG_ON(!c->name || !c->accel || !c->cpu || !c->net || !c->serial || !c->console);
}

void config_fini(struct vm_config *c)
{
    for (unsigned i = 0; i < c->n_disks; i++) {
        free(c->disk[i].path);
        free(c->disk[i].format);
        free(c->disk[i].serial);
        free(c->disk[i].bus);
        config_disk_io_fini(&c->disk[i]);
    }
    free(c->on_io_error);
    free(c->name);
    free(c->accel);
    free(c->cpu);
    free(c->kernel);
    free(c->initrd);
    free(c->append);
    free(c->firmware);
    free(c->uefi_vars);
    free(c->firmware_log);
    free(c->boot_order);
    free(c->net);
    free(c->net_model);
    free(c->net_tftp);
    free(c->net_bootfile);
    free(c->serial);
    free(c->console);
    free(c->parallel);
    free(c->display);
    free(c->display_password);
    free(c->screenshot);
    free(c->usb);
    free(c->gdb);
    free(c->perf_symbols);
    *c = (struct vm_config){ .debug_exit_port = -1 };
}

/* A kernel or an initrd: a readable regular file with something in it. what names the option. */
static int config_check_file(const char *what, const char *path, struct err *e)
{
    struct stat st;

    BUG_ON(!path);
    if (stat(path, &st))
        return err_set(e, errno, "%s %s cannot be used: %s", what, path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(e, EINVAL, "%s %s is not a regular file", what, path);
    if (!st.st_size)
        return err_set(e, EINVAL, "%s %s is empty", what, path);
    if (access(path, R_OK))
        return err_set(e, errno,
                       "%s %s cannot be read: %s; give yourself access with chmod or chown", what,
                       path, strerror(errno));
    return 0;
}

static int config_check_disk(const struct vm_config *c, unsigned i, struct err *e)
{
    const struct config_disk *d = &c->disk[i];
    struct stat st, other;

    if (config_check_disk_io(d, e) || config_check_bus(c, d, e))
        return -EINVAL;
    if (config_disk_is_remote(d) || config_disk_is_empty(d))
        return 0;
    if (stat(d->path, &st))
        return err_set(e, errno, "disk %s cannot be used: %s", d->path, strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return err_set(e, EINVAL, "disk %s is neither a regular file nor a block device", d->path);
    if (S_ISREG(st.st_mode) && !st.st_size)
        return err_set(e, EINVAL, "disk %s is empty; give it a size with: truncate -s 8G %s",
                       d->path, d->path);
    if (access(d->path, d->readonly ? R_OK : R_OK | W_OK))
        return err_set(e, errno, "disk %s cannot be %s: %s%s", d->path,
                       d->readonly ? "read" : "read and written", strerror(errno),
                       d->readonly ? "" : "; give yourself access, or add ,readonly");
    if (d->serial && strlen(d->serial) > 20)
        return err_set(e, EINVAL, "disk %s: the serial number has more than 20 characters",
                       d->path);
    for (unsigned j = 0; j < i; j++) {
        if (config_disk_is_empty(&c->disk[j]) || stat(c->disk[j].path, &other) ||
            other.st_dev != st.st_dev || other.st_ino != st.st_ino)
            continue;
        if (!d->readonly || !c->disk[j].readonly)
            return err_set(e, EINVAL, "disk %s is given twice; that would destroy its contents",
                           d->path);
    }
    return 0;
}

/* More than the machine has can only end in the host killing something, maybe us, maybe not. */
static int config_check_memory(const struct vm_config *c, struct err *e)
{
    struct sysinfo si;
    uint64_t host;

    if (c->memory < CONFIG_MEMORY_MIN)
        return err_set(e, EINVAL, "%llu bytes of memory are too few; the least is 2M",
                       (unsigned long long)c->memory);
    if (c->memory % PAGE_SIZE)
        return err_set(e, EINVAL, "the memory size is not a multiple of 4K");
    if (sysinfo(&si))
        return 0;
    host = ((uint64_t)si.totalram + si.totalswap) * si.mem_unit;
    if (c->memory > host)
        return err_set(e, ENOMEM, "%llu MiB of memory were asked for, but this host has %llu MiB",
                       (unsigned long long)(c->memory / MIB), (unsigned long long)(host / MIB));
    return 0;
}

static int config_check_forwards(const struct vm_config *c, struct err *e)
{
    struct in_addr addr;

    if (c->n_forwards && strcmp(c->net, "user"))
        return err_set(e, EINVAL, "ports are forwarded only with --net user");
    for (unsigned i = 0; i < c->n_forwards; i++) {
        const struct config_forward *f = &c->forward[i];

        if (!f->host_port || !f->guest_port)
            return err_set(e, EINVAL, "a forwarded port is between 1 and 65535");
        if (inet_pton(AF_INET, f->host_addr, &addr) != 1)
            return err_set(e, EINVAL, "%s is not an IPv4 address of this host", f->host_addr);
        for (unsigned j = 0; j < i; j++) {
            const struct config_forward *g = &c->forward[j];

            if (g->udp == f->udp && g->host_port == f->host_port &&
                !strcmp(g->host_addr, f->host_addr))
                return err_set(e, EINVAL, "port %u of %s is forwarded twice", f->host_port,
                               f->host_addr);
        }
    }
    return 0;
}

static int config_check_stream(const char *option, const char *where, struct err *e)
{
    static const char *const paths[] = { "file:", "unix:" };

    if (!strcmp(where, "stdio") || !strcmp(where, "none") || !strcmp(where, "pty"))
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        if (!strncmp(where, paths[i], 5) && where[5])
            return 0;
    return err_set(e, EINVAL,
                   "%s: %s is not a place for its output; known: stdio, none, file:PATH, "
                   "unix:PATH, pty",
                   option, where);
}

static int config_check_gdb(const struct vm_config *c, struct err *e)
{
    struct sock_addr a;

    if (c->gdb)
        return sock_parse("--gdb", c->gdb, &a, e) ? -EINVAL : 0;
    if (c->gdb_wait)
        return err_set(e, EINVAL,
                       "waiting for a debugger needs the address it comes to: --gdb ADDR");
    return 0;
}

static int config_check_display(const struct vm_config *c, struct err *e)
{
    struct sock_addr a;

    if (!c->display || !strcmp(c->display, "none") || !strcmp(c->display, "vnc"))
        return 0;
    if (strncmp(c->display, "vnc=", 4))
        return err_set(e, EINVAL,
                       "--display %s: there is no such display; known: none, vnc, vnc=ADDR:PORT",
                       c->display);
    return sock_parse("--display vnc", c->display + 4, &a, e) ? -EINVAL : 0;
}

static bool config_is_net_model(const char *model)
{
    const char *list = CONFIG_NET_MODELS;
    size_t len = strlen(model);

    while (len && list) {
        if (!strncmp(list, model, len) && (list[len] == '|' || !list[len]))
            return true;
        list = strchr(list, '|');
        list = list ? list + 1 : NULL;
    }
    return false;
}

static int config_check_tftp(const struct vm_config *c, struct err *e)
{
    struct stat st;

    if ((c->net_tftp || c->net_bootfile) && strcmp(c->net, "user") != 0)
        return err_set(e, EINVAL, "--net %s has no server for tftp= and bootfile=: use --net user",
                       c->net);
    if (!c->net_tftp)
        return 0;
    if (stat(c->net_tftp, &st))
        return err_set(e, errno, "--net tftp=%s cannot be used: %s", c->net_tftp, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return err_set(e, EINVAL, "--net tftp=%s is not a folder: give the one that has the files",
                       c->net_tftp);
    return 0;
}

static int config_check_words(const struct vm_config *c, struct err *e)
{
    if (!rundir_name_ok(c->name))
        return err_set(e, EINVAL,
                       "a VM's name has 1 to 64 letters, digits and characters of . _ -, and does "
                       "not begin with . or -");
    if (strcmp(c->accel, "auto") && strcmp(c->accel, "kvm") && strcmp(c->accel, "kvm-only") &&
        strcmp(c->accel, "bt"))
        return err_set(e, EINVAL, "%s is not an accelerator; known: auto, kvm, kvm-only, bt",
                       c->accel);
    if (strcmp(c->net, "none") && strcmp(c->net, "user"))
        return err_set(e, EINVAL, "%s is not a kind of network; known: none, user", c->net);
    if (c->net_model && !config_is_net_model(c->net_model))
        return err_set(e, EINVAL, "%s is not a network card; known: " CONFIG_NET_MODELS,
                       c->net_model);
    if (config_check_tftp(c, e))
        return -EINVAL;
    if (c->mac[0] & 1)
        return err_set(e, EINVAL,
                       "the MAC address is a multicast one; its first byte must be even");
    if (!strcmp(c->serial, "stdio") && !strcmp(c->console, "stdio"))
        return err_set(e, EINVAL,
                       "serial port and console cannot both be this terminal: give --serial none "
                       "with --console stdio");
    if (config_check_gdb(c, e) || config_check_display(c, e))
        return -EINVAL;
    if (config_check_stream("--serial", c->serial, e))
        return -EINVAL;
    if (c->parallel && !strcmp(c->parallel, "stdio") &&
        (!strcmp(c->serial, "stdio") || !strcmp(c->console, "stdio")))
        return err_set(e, EINVAL,
                       "the parallel port cannot share this terminal with the serial port or the "
                       "console: give --serial none with --parallel stdio");
    if (c->parallel && config_check_stream("--parallel", c->parallel, e))
        return -EINVAL;
    return config_check_stream("--console", c->console, e);
}

static bool config_firmware_named(const char *firmware)
{
    return !strcmp(firmware, "auto") || !strcmp(firmware, "bios") || !strcmp(firmware, "uefi");
}

/* With firmware, or a kernel booted without. */
static int config_check_boot(const struct vm_config *c, struct err *e)
{
    int r = 0;

    if (!c->kernel && !c->firmware)
        return err_set(e, EINVAL,
                       "there is nothing to boot: give a disk with --disk FILE or a kernel with "
                       "--kernel FILE");
    if (c->kernel && c->firmware)
        return err_set(e, EINVAL,
                       "a kernel is booted without firmware: leave one of --kernel and --firmware "
                       "out");
    if (c->kernel)
        r = config_check_file("kernel", c->kernel, e);
    else if (!config_firmware_named(c->firmware))
        r = config_check_file("firmware", c->firmware, e);
    if (!r && c->boot_order && strspn(c->boot_order, "acdn") != strlen(c->boot_order))
        r = err_set(e, EINVAL,
                    "--boot order=%s: known letters are a (floppy), c (disk), d (CD), n (network)",
                    c->boot_order);
    if (!r && c->uefi_vars &&
        (!c->firmware || (strcmp(c->firmware, "uefi") && strcmp(c->firmware, "auto"))))
        r = err_set(e, EINVAL, "--uefi-vars needs --firmware uefi");
    if (!r && c->firmware_log)
        r = config_check_stream("--firmware-log", c->firmware_log, e);
    return r;
}

int config_check(const struct vm_config *c, struct err *e)
{
    int r;

    if (c->cpus < 1 || c->cpus > CONFIG_MAX_CPUS)
        return err_set(e, EINVAL, "%u CPUs are not possible; a VM has 1 to %d", c->cpus,
                       CONFIG_MAX_CPUS);
    if (c->debug_exit_port < -1 || c->debug_exit_port > 0xffff)
        return err_set(e, EINVAL, "the debug exit port is not a port number (0 to 0xffff)");
    r = config_check_words(c, e);
    if (!r)
        r = config_check_memory(c, e);
    if (!r)
        r = config_check_forwards(c, e);
    if (!r)
        r = config_check_boot(c, e);
    if (!r && c->initrd)
        r = config_check_file("initrd", c->initrd, e);
    if (!r && c->perf_symbols)
        r = config_check_file("symbols", c->perf_symbols, e);
    if (!r)
        r = config_check_usb(c, e);
    if (!r)
        r = config_check_on_io_error(c->on_io_error, e);
    for (unsigned i = 0; !r && i < c->n_disks; i++)
        r = config_check_disk(c, i, e);
    return r;
}
