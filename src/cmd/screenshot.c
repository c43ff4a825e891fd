/* screenshot.c: `ruche screenshot`. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/cmd.h"
#include "cmd/vms.h"

/* 0 to 63; 64: padding; 255: no digit of base64. */
static uint8_t screenshot_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint8_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint8_t)(c - 'a' + 26);
    if (c >= '0' && c <= '9')
        return (uint8_t)(c - '0' + 52);
    return c == '+' ? 62 : c == '/' ? 63 : c == '=' ? 64 : 255;
}

/* malloc'd; NULL: it is not base64, or there is no memory. */
static uint8_t *screenshot_decode(const char *text, size_t *len)
{
    size_t n = strlen(text);
    uint8_t *data = n % 4 ? NULL : malloc(n / 4 * 3 + 1);

    *len = 0;
    for (size_t i = 0; data && i < n; i += 4) {
        uint32_t v = 0;

        for (size_t k = 0; k < 4; k++) {
            uint8_t d = screenshot_digit(text[i + k]);

            if (d == 255 || (d == 64 && (k < 2 || i + 4 < n))) {
                free(data);
                return NULL;
            }
            v = v << 6 | (d & 63);
        }
        data[(*len)++] = (uint8_t)(v >> 16);
        if (text[i + 2] != '=')
            data[(*len)++] = (uint8_t)(v >> 8);
        if (text[i + 3] != '=')
            data[(*len)++] = (uint8_t)v;
    }
    return data;
}

static int screenshot_write(const char *path, const void *data, size_t len, struct err *e)
{
    bool to_stdout = !strcmp(path, "-");
    int fd = to_stdout ? STDOUT_FILENO : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int rc = fd < 0 ? -errno : util_write_all(fd, data, len);

    if (fd >= 0 && !to_stdout && close(fd) && !rc)
        rc = -errno;
    if (rc)
        return err_set(e, -rc, "cannot write %s: %s", to_stdout ? "the output" : path,
                       strerror(-rc));
    return 0;
}

static int screenshot_save(const json_t *result, const char *path, struct err *e)
{
    const char *text = json_string_value(json_object_get(result, "text"));
    const char *base64 = json_string_value(json_object_get(result, "base64"));
    uint8_t *data;
    size_t len;
    int rc;

    if (text)
        return screenshot_write(path, text, strlen(text), e);
    data = base64 ? screenshot_decode(base64, &len) : NULL;
    if (!data)
        return err_set(e, EPROTO, "the VM's answer has no picture");
    rc = screenshot_write(path, data, len, e);
    free(data);
    return rc;
}

static bool screenshot_ends_in(const char *path, const char *suffix)
{
    size_t len = strlen(path), n = strlen(suffix);

    return len > n && !strcasecmp(path + len - n, suffix);
}

int cmd_screenshot(int argc, char **argv)
{
    struct err e = { 0 };
    json_t *result = NULL;
    struct vms_vm vm;
    bool text;
    int n, rc = args_words(argc, argv, NULL, 0, 2, 2, &n, &e);

    if (rc)
        return args_failed(rc, &e);
    text = !strcmp(argv[2], "-") || screenshot_ends_in(argv[2], ".txt");
    if (!text && !screenshot_ends_in(argv[2], ".png")) {
        fprintf(stderr, "ruche: %s: the name says what is wanted: FILE.png or FILE.txt\n", argv[2]);
        return CMD_USAGE;
    }
    rc = vms_connect(&vm, argv[1], &e);
    if (rc)
        return vms_failed(rc, &e);
    rc = vms_call(&vm, "screenshot", json_pack("{s:s}", "format", text ? "text" : "png"),
                  VMS_TIMEOUT_MS, &result, &e);
    vms_close(&vm);
    if (rc)
        return vms_failed(rc, &e);
    rc = screenshot_save(result, argv[2], &e);
    json_decref(result);
    return rc ? cmd_fail(&e) : CMD_OK;
}
