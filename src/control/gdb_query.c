/* gdb_query.c: q and Q packets: what both sides can do, the target description, threads (E.4, E.5). */
#include "control/gdb_priv.h"

#include <stdio.h>
#include <string.h>

void gdb_query_supported(struct gdb *g, const char *args)
{
    g->swbreak = strstr(args, "swbreak+") != NULL;
    g->hwbreak = strstr(args, "hwbreak+") != NULL;
    gdb_putf(&g->reply,
             "PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;vContSupported+;swbreak+;"
             "hwbreak+",
             (unsigned)GDB_PACKET_MAX);
}

void gdb_query_no_ack(struct gdb *g, const char *args)
{
    (void)args;
    g->no_ack = true;
    gdb_ok(g);
}

/* ANNEX:OFFSET,LENGTH; answers l (the last piece) or m, and the piece. */
void gdb_query_xfer(struct gdb *g, const char *args)
{
    static const char annex[] = "target.xml:";
    uint64_t off, len, size = strlen(g->xml);

    if (strncmp(args, annex, sizeof(annex) - 1) != 0) {
        gdb_put(&g->reply, "E00");
        return;
    }
    args += sizeof(annex) - 1;
    if (!gdb_scan_hex_to(&args, &off, ',') || !gdb_scan_hex(&args, &len) || *args || off > size) {
        gdb_error(g, GDB_EINVAL);
        return;
    }
    len = min_u64(min_u64(len, size - off), GDB_PACKET_MAX / 2 - 1); /* escapes double it */
    gdb_put(&g->reply, off + len < size ? "m" : "l");
    gdb_put_binary(&g->reply, g->xml + off, (size_t)len);
}

/* --- threads --- */

void gdb_query_first_threads(struct gdb *g, const char *args)
{
    (void)args;
    for (unsigned i = 0; i < g->vm->nvcpus; i++)
        gdb_putf(&g->reply, "%s%x", i ? "," : "m", i + 1);
}

void gdb_query_more_threads(struct gdb *g, const char *args)
{
    (void)args;
    gdb_put(&g->reply, "l");
}

void gdb_query_current(struct gdb *g, const char *args)
{
    (void)args;
    gdb_putf(&g->reply, "QC%x", g->cpu + 1);
}

/* The VM was there before the client: leaving means detaching. */
void gdb_query_attached(struct gdb *g, const char *args)
{
    (void)args;
    gdb_put(&g->reply, "1");
}

static const char *gdb_mode(const struct x86_state *s)
{
    if (x86_code64(s))
        return "64-bit";
    if (x86_long_mode(s))
        return "compatibility mode";
    if (!(s->cr0 & CR0_PE))
        return "real mode";
    if (s->rflags & FLAG_VM)
        return "virtual-8086 mode";
    return s->seg[X86_CS].attr & SEG_DB ? "32-bit" : "16-bit protected mode";
}

void gdb_describe_cpu(struct gdb *g, unsigned cpu, char *buf, size_t len)
{
    static const char *const activity[] = {
        [X86_MP_RUNNING] = "running",
        [X86_MP_HALTED] = "halted",
        [X86_MP_WAIT_SIPI] = "waiting for its start",
        [X86_MP_INIT] = "waiting for its start",
    };
    const struct x86_state *s = gdb_state(g, cpu);

    if (s && s->mp_state < ARRAY_SIZE(activity))
        snprintf(buf, len, "CPU#%u [%s, %s, CPL %u]", cpu, activity[s->mp_state], gdb_mode(s),
                 x86_cpl(s));
    else
        snprintf(buf, len, "CPU#%u", cpu);
}

void gdb_query_thread_info(struct gdb *g, const char *args)
{
    char text[96];
    int cpu;

    if (!gdb_scan_thread(g, &args, &cpu) || *args || cpu < 0) {
        gdb_error(g, GDB_ENOENT);
        return;
    }
    gdb_describe_cpu(g, (unsigned)cpu, text, sizeof(text));
    gdb_put_hex(&g->reply, text, strlen(text));
}
