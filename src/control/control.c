/* control.c: see control.h. */
#include "control/control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "control/control_media.h"
#include "control/rpc_server.h"
#include "control/typist.h"
#include "vm/machine_pc.h"

enum { NS_PER_MS = 1000000 };

struct control {
    struct vm *vm;
    struct rpc_server *server;
    struct typist *typist;
    char log_path[PATH_MAX];
    uint64_t start_ns; /* monotonic */
};

/* --- parameters --- */

/* No members but these; a NULL ends them. false: refused. */
static bool control_knows(struct rpc_call *c, json_t *params, const char *const *known)
{
    const char *name;
    json_t *value;

    json_object_foreach(params, name, value)
    {
        const char *const *k = known;

        while (*k && strcmp(*k, name))
            k++;
        if (!*k) {
            rpc_refuse(c, RPC_INVALID_PARAMS, "there is no parameter %.64s", name);
            return false;
        }
    }
    return true;
}

static bool control_takes_none(struct rpc_call *c, json_t *params)
{
    static const char *const none[] = { NULL };

    return control_knows(c, params, none);
}

/* --- what it is --- */

static const char *control_state(const struct vm *vm)
{
    if (vm->held)
        return "held";
    if (vm->paused)
        return "paused";
    if (vm->stalls)
        return "io-error";
    return atomic_load(&vm->suspended) ? "suspended" : "running";
}

static json_t *control_disks(struct vm *vm)
{
    const struct vm_config *cfg = vm->cfg;
    json_t *disks = json_array();

    for (unsigned i = 0; i < cfg->n_disks; i++)
        json_array_append_new(disks, json_pack("{s:s?, s:b, s:b}", "file", control_disk_file(vm, i),
                                               "readonly", cfg->disk[i].readonly, "cdrom",
                                               cfg->disk[i].cdrom));
    return disks;
}

static json_t *control_forwards(const struct vm_config *cfg)
{
    json_t *forwards = json_array();

    for (unsigned i = 0; i < cfg->n_forwards; i++) {
        const struct config_forward *f = &cfg->forward[i];

        json_array_append_new(forwards,
                              json_pack("{s:s, s:s, s:i, s:i}", "protocol", f->udp ? "udp" : "tcp",
                                        "host", f->host_addr, "host_port", f->host_port,
                                        "guest_port", f->guest_port));
    }
    return forwards;
}

static void control_status(void *opaque, struct rpc_call *c, json_t *params)
{
    struct control *ctl = opaque;
    const struct vm_config *cfg = ctl->vm->cfg;
    char display[160] = "";
    json_t *status;

    if (!control_takes_none(c, params))
        return;
    machine_pc_display_where(ctl->vm, display, sizeof(display));
    status = json_pack(
        "{s:s, s:s, s:i, s:s, s:s, s:i, s:I, s:I, s:s?, s:s?, s:o, s:s, s:o, s:s*, s:s*, s:s}",
        "name", cfg->name, "state", control_state(ctl->vm), "pid", (int)getpid(), "version",
        RUCHE_VERSION, "accel", ctl->vm->accel ? ctl->vm->accel->name : "none", "cpus",
        (int)ctl->vm->nvcpus, "memory", (json_int_t)cfg->memory, "uptime_ms",
        (json_int_t)((util_monotonic_ns() - ctl->start_ns) / NS_PER_MS), "kernel", cfg->kernel,
        "firmware", cfg->firmware, "disks", control_disks(ctl->vm), "net", cfg->net, "forwards",
        control_forwards(cfg), "display", *display ? display : NULL, "reason",
        ctl->vm->stalls ? ctl->vm->stall_reason : NULL, "log", ctl->log_path);
    rpc_answer(c, status);
}

/* --- its screen --- */

static char *control_base64(const uint8_t *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc((len + 2) / 3 * 4 + 1), *out = text;

    for (size_t i = 0; text && i < len; i += 3) {
        size_t n = min_u64(len - i, 3);
        uint32_t v = (uint32_t)data[i] << 16;

        v |= n > 1 ? (uint32_t)data[i + 1] << 8 : 0;
        v |= n > 2 ? data[i + 2] : 0;
        *out++ = digits[v >> 18];
        *out++ = digits[v >> 12 & 63];
        *out++ = n > 1 ? digits[v >> 6 & 63] : '=';
        *out++ = n > 2 ? digits[v & 63] : '=';
    }
    if (text)
        *out = '\0';
    return text;
}

static void control_screen_data(struct rpc_call *c, bool text, const void *data, size_t len)
{
    char *base64 = text ? NULL : control_base64(data, len);

    rpc_answer(c, text ? json_pack("{s:s, s:s}", "format", "text", "text", data)
                       : json_pack("{s:s, s:s}", "format", "png", "base64", base64));
    free(base64);
}

static void control_screenshot(void *opaque, struct rpc_call *c, json_t *params)
{
    static const char *const known[] = { "format", NULL };
    const json_t *format = json_object_get(params, "format");
    const char *name = format ? json_string_value(format) : "png";
    struct control *ctl = opaque;
    size_t len = 0;
    bool text;
    void *data;

    if (!control_knows(c, params, known))
        return;
    if (!name || (strcmp(name, "png") && strcmp(name, "text"))) {
        rpc_refuse(c, RPC_INVALID_PARAMS, "format must be png or text");
        return;
    }
    text = !strcmp(name, "text");
    if (!machine_pc_has_screen(ctl->vm)) {
        rpc_refuse(c, RPC_FAILED,
                   "this VM has no screen: a kernel booted without firmware gets one with "
                   "--display");
        return;
    }
    data = machine_pc_screen(ctl->vm, text, &len);
    if (data && text && !len)
        rpc_refuse(c, RPC_FAILED,
                   "the screen is in a graphics mode: it can be had as a picture (file.png)");
    else if (data)
        control_screen_data(c, text, data, len);
    else
        rpc_refuse(c, RPC_FAILED, "the guest is just changing the screen's mode: try again");
    free(data);
}

/* --- its keyboard --- */

static int control_key(void *opaque, uint8_t key, bool down)
{
    return machine_pc_key(((struct control *)opaque)->vm, key, down);
}

static bool control_running(void *opaque)
{
    const struct vm *vm = ((struct control *)opaque)->vm;

    return !vm->paused && !atomic_load(&vm->suspended);
}

static bool control_may_type(struct control *ctl, struct rpc_call *c)
{
    if (!ctl->vm->paused)
        return true;
    rpc_refuse(c, RPC_FAILED, "the VM is paused and takes no keys: `ruche resume %s` first",
               ctl->vm->cfg->name);
    return false;
}

static void control_type(void *opaque, struct rpc_call *c, json_t *params)
{
    static const char *const known[] = { "text", NULL };
    const char *text = json_string_value(json_object_get(params, "text"));
    struct control *ctl = opaque;

    if (!control_knows(c, params, known))
        return;
    if (!text)
        rpc_refuse(c, RPC_INVALID_PARAMS, "text must be a string");
    else if (control_may_type(ctl, c))
        typist_type(ctl->typist, c, text);
}

static void control_press(void *opaque, struct rpc_call *c, json_t *params)
{
    static const char *const known[] = { "keys", NULL };
    const json_t *keys = json_object_get(params, "keys");
    struct control *ctl = opaque;

    if (!control_knows(c, params, known))
        return;
    if (!json_is_array(keys) || !json_array_size(keys))
        rpc_refuse(c, RPC_INVALID_PARAMS, "keys must be an array like [\"ctrl-alt-del\"]");
    else if (control_may_type(ctl, c))
        typist_press(ctl->typist, c, keys);
}

static void control_drives(void *opaque, struct rpc_call *c, json_t *params)
{
    control_media(((struct control *)opaque)->vm, c, params);
}

/* --- its life --- */

/* What a debugger holds is the debugger's. */
static bool control_may_go_on(const struct control *ctl, struct rpc_call *c)
{
    if (!ctl->vm->held)
        return true;
    rpc_refuse(c, RPC_FAILED, "a debugger holds this VM");
    return false;
}

static void control_pause(void *opaque, struct rpc_call *c, json_t *params)
{
    struct control *ctl = opaque;

    if (!control_takes_none(c, params) || !control_may_go_on(ctl, c))
        return;
    vm_pause(ctl->vm);
    rpc_answer(c, json_object());
}

static void control_resume(void *opaque, struct rpc_call *c, json_t *params)
{
    struct control *ctl = opaque;

    if (!control_takes_none(c, params) || !control_may_go_on(ctl, c))
        return;
    vm_resume(ctl->vm);
    if (ctl->vm->stalls)
        rpc_refuse(c, RPC_FAILED, "%s", ctl->vm->stall_reason);
    else
        rpc_answer(c, json_object());
}

static void control_power_button(void *opaque, struct rpc_call *c, json_t *params)
{
    struct control *ctl = opaque;

    if (!control_takes_none(c, params))
        return;
    if (ctl->vm->paused) {
        rpc_refuse(c, RPC_FAILED,
                   "the VM is paused and would not see it: `ruche resume %s` first, or `ruche stop "
                   "--now %s`",
                   ctl->vm->cfg->name, ctl->vm->cfg->name);
        return;
    }
    machine_pc_power_button(ctl->vm);
    rpc_answer(c, json_object());
}

static void control_reset(void *opaque, struct rpc_call *c, json_t *params)
{
    struct control *ctl = opaque;

    if (!control_takes_none(c, params) || !control_may_go_on(ctl, c))
        return;
    if (ctl->vm->cfg->no_reboot) {
        rpc_refuse(c, RPC_FAILED,
                   "this VM was started with --no-reboot, and a reset would end it: `ruche stop "
                   "--now %s` does that",
                   ctl->vm->cfg->name);
        return;
    }
    rpc_answer(c, json_object());
    vm_end(ctl->vm, VM_END_RESET, 0, "reset by its control socket");
}

static void control_quit(void *opaque, struct rpc_call *c, json_t *params)
{
    struct control *ctl = opaque;

    if (!control_takes_none(c, params))
        return;
    rpc_answer(c, json_object());
    vm_end(ctl->vm, VM_END_POWEROFF, 0, "ended by its control socket");
}

/* --- the table --- */

static void control_methods(void *opaque, struct rpc_call *c, json_t *params);

static const struct rpc_method control_table[] = {
    { "key", "keys: [\"ctrl-alt-del\", ...]", "presses keys; answers when the last is let go",
      control_press },
    { "media",
      "drive: \"cd0\", file: its name (and its descriptor beside the request) or eject: true, "
      "format, force, readonly; or none",
      "puts a medium in or takes it out; gives what is in the drives", control_drives },
    { "methods", "", "lists the methods", control_methods },
    { "pause", "", "stops the guest and its clock", control_pause },
    { "power-button", "", "presses the power button", control_power_button },
    { "quit", "", "ends the VM at once", control_quit },
    { "reset", "", "resets the VM", control_reset },
    { "resume", "", "lets the guest go on", control_resume },
    { "screenshot", "format: png (default) or text", "gives the screen", control_screenshot },
    { "status", "", "tells what the VM is and does", control_status },
    { "type", "text: \"...\"", "types on the keyboard (US layout); answers when all is typed",
      control_type },
};

static void control_methods(void *opaque, struct rpc_call *c, json_t *params)
{
    json_t *list = json_array();

    (void)opaque;
    if (!control_takes_none(c, params)) {
        json_decref(list);
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(control_table); i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s}", "name", control_table[i].name, "params",
                                        control_table[i].params, "text", control_table[i].text));
    rpc_answer(c, list);
}

/* --- life --- */

struct control *control_create(struct vm *vm, const struct rundir *dir, struct err *e)
{
    const struct typist_keyboard keyboard = { NULL, control_key, control_running };
    struct control *c = calloc(1, sizeof(*c));
    int fd = -1;

    if (!c)
        return err_oom(e);
    c->vm = vm;
    c->start_ns = util_monotonic_ns();
    if (dir) {
        snprintf(c->log_path, sizeof(c->log_path), "%.*s/log", PATH_MAX - 8, dir->path);
        fd = rundir_listen(dir, "control", e);
    }
    if (!dir || fd >= 0) {
        struct typist_keyboard k = keyboard;

        k.opaque = c;
        c->typist = typist_create(vm->loop, &k, e);
    }
    if (c->typist)
        c->server = rpc_server_create(vm->loop, fd, control_table, ARRAY_SIZE(control_table), c, e);
    if (!c->server) {
        util_close(&fd);
        control_destroy(c);
        return NULL;
    }
    return c;
}

int control_adopt(struct control *c, int fd)
{
    return rpc_server_adopt(c->server, fd);
}

void control_destroy(struct control *c)
{
    if (!c)
        return;
    typist_destroy(c->typist);
    rpc_server_destroy(c->server);
    free(c);
}
