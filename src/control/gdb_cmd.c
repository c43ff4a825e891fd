/*
 * gdb_cmd.c: the table of packets, and those for registers, memory and threads (GDB manual, E.2).
 * Every argument is hostile: numbers are scanned with bounds, lengths are checked against the packet.
 */
#include "control/gdb_priv.h"

#include <string.h>

#include "control/gdb_regs.h"

/* --- answers --- */

void gdb_ok(struct gdb *g)
{
    gdb_put(&g->reply, "OK");
}

void gdb_error(struct gdb *g, unsigned number)
{
    g->reply.len = 0;
    gdb_putf(&g->reply, "E%02x", number);
}

struct x86_state *gdb_state(struct gdb *g, unsigned cpu)
{
    if (g->state_valid && g->state_cpu == cpu)
        return g->state;
    g->state_cpu = cpu;
    g->state_valid = !vcpu_get_state(g->vm->vcpu[cpu], g->state);
    return g->state_valid ? g->state : NULL;
}

/* --- threads: number of the vCPU + 1 --- */

bool gdb_scan_thread(const struct gdb *g, const char **p, int *cpu)
{
    uint64_t id;

    *cpu = -1;
    if (!strncmp(*p, "-1", 2)) {
        *p += 2;
        return true;
    }
    if (!gdb_scan_hex(p, &id) || id > g->vm->nvcpus)
        return false;
    *cpu = (int)id - 1;
    return true;
}

/* Hg, Hc: only the former matters, as clients that set the latter resume by vCont. */
static void gdb_cmd_thread(struct gdb *g, const char *args)
{
    char what = *args;
    int cpu;

    if (what != 'g' && what != 'c') {
        gdb_error(g, GDB_EINVAL);
        return;
    }
    args++;
    if (!gdb_scan_thread(g, &args, &cpu) || *args) {
        gdb_error(g, GDB_EINVAL);
        return;
    }
    if (what == 'g')
        g->cpu = cpu < 0 ? g->stop_cpu : (unsigned)cpu;
    gdb_ok(g);
}

static void gdb_cmd_alive(struct gdb *g, const char *args)
{
    int cpu;

    if (gdb_scan_thread(g, &args, &cpu) && !*args && cpu >= 0)
        gdb_ok(g);
    else
        gdb_error(g, GDB_ENOENT);
}

/* --- registers --- */

static void gdb_cmd_regs_read(struct gdb *g, const char *args)
{
    struct x86_state *s = gdb_state(g, g->cpu);

    (void)args;
    if (!s) {
        gdb_error(g, GDB_EFAULT);
        return;
    }
    for (unsigned i = 0; i < gdb_regs_count(g->avx); i++) {
        uint8_t buf[GDB_REG_MAX];

        gdb_put_hex(&g->reply, buf, gdb_reg_get(s, i, buf));
    }
}

/* Into the vCPU, if a processor can be in that state; g->state is what the vCPU has in any case. */
static void gdb_regs_commit(struct gdb *g)
{
    g->state_valid = false;
    if (x86_state_invalid(g->state))
        gdb_error(g, GDB_EINVAL);
    else if (vcpu_set_state(g->vm->vcpu[g->cpu], g->state))
        gdb_error(g, GDB_EFAULT);
    else
        gdb_ok(g);
}

static void gdb_cmd_regs_write(struct gdb *g, const char *args)
{
    struct x86_state *s = gdb_state(g, g->cpu);
    uint8_t buf[GDB_REG_MAX];
    size_t left = strlen(args);

    if (!s) {
        gdb_error(g, GDB_EFAULT);
        return;
    }
    for (unsigned i = 0; left && i < gdb_regs_count(g->avx); i++) {
        size_t size = gdb_reg_size(i);

        if (left < 2 * size || !gdb_scan_bytes(args, buf, size)) {
            g->state_valid = false;
            gdb_error(g, GDB_EINVAL);
            return;
        }
        gdb_reg_set(s, i, buf);
        args += 2 * size;
        left -= 2 * size;
    }
    gdb_regs_commit(g);
}

/* p N */
static void gdb_cmd_reg_read(struct gdb *g, const char *args)
{
    struct x86_state *s = gdb_state(g, g->cpu);
    uint8_t buf[GDB_REG_MAX];
    uint64_t reg;

    if (!s || !gdb_scan_hex(&args, &reg) || *args || reg >= gdb_regs_count(g->avx))
        gdb_error(g, GDB_EINVAL);
    else
        gdb_put_hex(&g->reply, buf, gdb_reg_get(s, (unsigned)reg, buf));
}

/* P N=VALUE */
static void gdb_cmd_reg_write(struct gdb *g, const char *args)
{
    struct x86_state *s = gdb_state(g, g->cpu);
    uint8_t buf[GDB_REG_MAX];
    uint64_t reg;

    if (!s || !gdb_scan_hex_to(&args, &reg, '=') || reg >= gdb_regs_count(g->avx) ||
        strlen(args) != 2 * gdb_reg_size((unsigned)reg) ||
        !gdb_scan_bytes(args, buf, gdb_reg_size((unsigned)reg))) {
        gdb_error(g, GDB_EINVAL);
        return;
    }
    gdb_reg_set(s, (unsigned)reg, buf);
    gdb_regs_commit(g);
}

/* --- memory --- */

static bool gdb_memory(struct gdb *g, uint64_t addr, void *buf, size_t len, bool write)
{
    const struct x86_state *s = g->physical ? NULL : gdb_state(g, g->cpu);

    if (g->physical)
        return write ? guest_write(&g->vm->mem, addr, buf, len)
                     : guest_read(&g->vm->mem, addr, buf, len);
    if (!s)
        return false;
    return write ? vm_write_virtual(g->vm, s, addr, buf, len)
                 : vm_read_virtual(g->vm, s, addr, buf, len);
}

/* m ADDR,LEN: up to the first page that is not there. */
static void gdb_cmd_mem_read(struct gdb *g, const char *args)
{
    uint8_t buf[GDB_PACKET_MAX / 2];
    uint64_t addr, len;
    size_t done = 0;

    if (!gdb_scan_hex_to(&args, &addr, ',') || !gdb_scan_hex(&args, &len) || *args) {
        gdb_error(g, GDB_EINVAL);
        return;
    }
    len = min_u64(len, sizeof(buf));
    while (done < len) {
        uint64_t at = addr + done;
        size_t n = (size_t)min_u64(len - done, PAGE_SIZE - (at & ~PAGE_MASK));

        if (!gdb_memory(g, at, buf + done, n, false))
            break;
        done += n;
    }
    if (len && !done)
        gdb_error(g, GDB_EFAULT);
    else
        gdb_put_hex(&g->reply, buf, done);
}

static void gdb_mem_write(struct gdb *g, uint64_t addr, void *bytes, size_t len)
{
    if (!len || gdb_memory(g, addr, bytes, len, true))
        gdb_ok(g);
    else
        gdb_error(g, GDB_EFAULT);
}

/* M ADDR,LEN:HEX */
static void gdb_cmd_mem_write(struct gdb *g, const char *args)
{
    uint8_t buf[GDB_PACKET_MAX / 2];
    uint64_t addr, len;

    if (!gdb_scan_hex_to(&args, &addr, ',') || !gdb_scan_hex_to(&args, &len, ':') ||
        len > sizeof(buf) || strlen(args) != 2 * len || !gdb_scan_bytes(args, buf, (size_t)len))
        gdb_error(g, GDB_EINVAL);
    else
        gdb_mem_write(g, addr, buf, (size_t)len);
}

/* X ADDR,LEN:BYTES */
static void gdb_cmd_mem_write_binary(struct gdb *g, const char *args)
{
    uint64_t addr, len;

    if (!gdb_scan_hex_to(&args, &addr, ',') || !gdb_scan_hex_to(&args, &len, ':') ||
        len != g->parser.len - (size_t)(args - g->parser.data))
        gdb_error(g, GDB_EINVAL);
    else
        gdb_mem_write(g, addr, g->parser.data + (args - g->parser.data), (size_t)len);
}

/* --- the table --- */

static const struct {
    const char *name;
    bool args; /* something follows */
    void (*run)(struct gdb *g, const char *args);
} gdb_commands[] = {
    { "?", false, gdb_run_why },
    { "D", false, gdb_run_detach },
    { "G", true, gdb_cmd_regs_write },
    { "H", true, gdb_cmd_thread },
    { "M", true, gdb_cmd_mem_write },
    { "P", true, gdb_cmd_reg_write },
    { "QStartNoAckMode", false, gdb_query_no_ack },
    { "T", true, gdb_cmd_alive },
    { "X", true, gdb_cmd_mem_write_binary },
    { "Z", true, gdb_point_insert },
    { "c", false, gdb_run_continue },
    { "g", false, gdb_cmd_regs_read },
    { "k", false, gdb_run_kill },
    { "m", true, gdb_cmd_mem_read },
    { "p", true, gdb_cmd_reg_read },
    { "qAttached", false, gdb_query_attached },
    { "qC", false, gdb_query_current },
    { "qRcmd,", true, gdb_monitor },
    { "qSupported", true, gdb_query_supported },
    { "qThreadExtraInfo,", true, gdb_query_thread_info },
    { "qXfer:features:read:", true, gdb_query_xfer },
    { "qfThreadInfo", false, gdb_query_first_threads },
    { "qsThreadInfo", false, gdb_query_more_threads },
    { "s", false, gdb_run_step },
    { "vCont;", true, gdb_run_vcont },
    { "vCont?", false, gdb_run_vcont_ask },
    { "z", true, gdb_point_remove },
};

/* An empty answer if nobody knows the packet. */
void gdb_packet(struct gdb *g)
{
    const char *data = g->parser.data;

    g->reply.len = 0;
    g->reply.overflow = g->answered = false;
    for (size_t i = 0; i < ARRAY_SIZE(gdb_commands); i++) {
        size_t len = strlen(gdb_commands[i].name);

        if (strncmp(data, gdb_commands[i].name, len) != 0 || (data[len] && !gdb_commands[i].args))
            continue;
        gdb_commands[i].run(g, data + len);
        break;
    }
    if (!g->answered)
        gdb_send(g);
}
