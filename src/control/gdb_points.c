/*
 * gdb_points.c: breakpoints and watchpoints: Z and z packets (GDB manual, E.2), and INT3s for accelerators
 * that want them (accel_ops.debug_int3).
 *
 * The INT3s are in guest memory only while the guest runs, so that nothing that looks at memory in between
 * sees them. What the guest itself overwrote meanwhile is left alone when they are taken out.
 */
#include "control/gdb_priv.h"

#include <errno.h>
#include <string.h>

enum { INT3 = 0xcc };

/* --- INT3s --- */

/* Where lin is mapped: as the chosen vCPU sees it, or any other. */
static bool gdb_point_gpa(struct gdb *g, uint64_t lin, uint64_t *gpa)
{
    for (unsigned i = 0; i < g->vm->nvcpus; i++) {
        const struct x86_state *s = gdb_state(g, (g->cpu + i) % g->vm->nvcpus);

        if (s && vm_translate(g->vm, s, lin, gpa))
            return true;
    }
    return false;
}

static bool gdb_point_is_int3(const struct gdb *g, unsigned i)
{
    return g->vm->accel->debug_int3 && g->vm->accel->debug_int3(&g->points, i);
}

void gdb_points_enter(struct gdb *g)
{
    static const uint8_t int3 = INT3;

    for (unsigned i = 0; i < g->points.n; i++)
        g->int3[i].there = gdb_point_is_int3(g, i) &&
                           gdb_point_gpa(g, g->points.point[i].lin, &g->int3[i].gpa) &&
                           guest_read(&g->vm->mem, g->int3[i].gpa, &g->int3[i].byte, 1) &&
                           guest_write(&g->vm->mem, g->int3[i].gpa, &int3, 1);
}

/* In the opposite order: two linear addresses may be one physical address. */
void gdb_points_leave(struct gdb *g)
{
    for (unsigned i = g->points.n; i-- > 0;) {
        uint8_t now;

        if (g->int3[i].there && guest_read(&g->vm->mem, g->int3[i].gpa, &now, 1) && now == INT3 &&
            !guest_write(&g->vm->mem, g->int3[i].gpa, &g->int3[i].byte, 1))
            continue; /* it was writable when the INT3 went in */
        g->int3[i].there = false;
    }
}

/* --- the list --- */

/* All vCPUs have the same points; 0, or what the accelerator says of the first. */
static int gdb_points_apply(struct gdb *g)
{
    int rc = 0;

    g->points.version++;
    for (unsigned i = 0; !rc && i < g->vm->nvcpus; i++) {
        g->vm->vcpu[i]->debug.points = &g->points;
        rc = g->vm->accel->set_debug(g->vm->vcpu[i]);
    }
    return rc;
}

static unsigned gdb_point_find(const struct gdb *g, const struct debug_point *p)
{
    unsigned i = 0;

    while (i < g->points.n &&
           (g->points.point[i].kind != p->kind || g->points.point[i].lin != p->lin ||
            g->points.point[i].len != p->len))
        i++;
    return i;
}

static void gdb_point_drop(struct gdb *g, unsigned i)
{
    g->points.n--;
    memmove(&g->points.point[i], &g->points.point[i + 1],
            (g->points.n - i) * sizeof(g->points.point[0]));
}

void gdb_points_clear(struct gdb *g)
{
    g->points.n = 0;
    if (gdb_points_apply(g))
        return; /* fewer points never fail */
}

/* TYPE,ADDR,KIND[;...]; conditions and commands are not offered. */
static bool gdb_point_scan(const char *args, struct debug_point *p)
{
    static const enum debug_kind kinds[] = { DEBUG_BREAK_SW, DEBUG_BREAK_HW, DEBUG_WATCH_WRITE,
                                             DEBUG_WATCH_READ, DEBUG_WATCH_ACCESS };
    uint64_t type, len, end;

    if (!gdb_scan_hex_to(&args, &type, ',') || !gdb_scan_hex_to(&args, &p->lin, ',') ||
        !gdb_scan_hex(&args, &len) || *args || type >= ARRAY_SIZE(kinds))
        return false;
    p->kind = kinds[type];
    if (p->kind == DEBUG_BREAK_SW || p->kind == DEBUG_BREAK_HW)
        len = 1;
    p->len = (uint32_t)len;
    return len && len <= PAGE_SIZE && !ckd_add(&end, p->lin, len);
}

/* The last one: 0 or the number of the error. */
static unsigned gdb_point_try(struct gdb *g)
{
    unsigned last = g->points.n - 1;
    uint64_t gpa;

    if (gdb_points_apply(g))
        return GDB_ENOSPC;
    if (gdb_point_is_int3(g, last) && !(gdb_point_gpa(g, g->points.point[last].lin, &gpa) &&
                                        guest_ptr(&g->vm->mem, gpa, 1, true)))
        return GDB_EFAULT;
    return 0;
}

void gdb_point_insert(struct gdb *g, const char *args)
{
    struct debug_point p;
    unsigned error;

    if (!gdb_point_scan(args, &p)) {
        gdb_error(g, GDB_EINVAL);
        return;
    }
    if (gdb_point_find(g, &p) < g->points.n) { /* a packet that was sent again */
        gdb_ok(g);
        return;
    }
    if (g->points.n == DEBUG_POINTS_MAX) {
        gdb_error(g, GDB_ENOSPC);
        return;
    }
    g->points.point[g->points.n++] = p;
    error = gdb_point_try(g);
    if (!error) {
        gdb_ok(g);
        return;
    }
    gdb_point_drop(g, g->points.n - 1);
    gdb_error(g, gdb_points_apply(g) ? GDB_EFAULT : error);
}

void gdb_point_remove(struct gdb *g, const char *args)
{
    struct debug_point p;
    unsigned i;

    if (!gdb_point_scan(args, &p)) {
        gdb_error(g, GDB_EINVAL);
        return;
    }
    i = gdb_point_find(g, &p);
    if (i == g->points.n) {
        gdb_error(g, GDB_ENOENT);
        return;
    }
    gdb_point_drop(g, i);
    if (gdb_points_apply(g))
        gdb_error(g, GDB_EFAULT);
    else
        gdb_ok(g);
}
