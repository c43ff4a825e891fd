/*
 * image_info.c: `ruche image info`, in the words of qemu-img.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cmd/image.h"

/* qemu-img's name of a format: scripts compare it. */
static const char *image_info_format(const struct blk *b)
{
    return strcmp(b->ops->format, "vhd") ? b->ops->format : "vpc";
}

static bool image_info_actual_size(const struct blk *b, uint64_t *bytes)
{
    struct stat st;

    if (stat(b->path, &st) || !S_ISREG(st.st_mode))
        return false;
    *bytes = (uint64_t)st.st_blocks * 512;
    return true;
}

static void image_info_backing(json_t *o, const struct blk *b, const struct blk_info *i)
{
    char *full = i->backing ? blk_resolve(b->path, i->backing) : NULL;

    if (!i->backing)
        return;
    json_object_set_new(o, "backing-filename", json_string(i->backing));
    if (full)
        json_object_set_new(o, "full-backing-filename", json_string(full));
    if (i->backing_format)
        json_object_set_new(o, "backing-filename-format", json_string(i->backing_format));
    free(full);
}

/* One layer; NULL: out of memory. */
static json_t *image_info_json(struct blk *b)
{
    json_t *o = json_object();
    struct blk_info i;
    uint64_t actual;

    blk_info(b, &i);
    json_object_set_new(o, "virtual-size", json_integer((json_int_t)b->size));
    json_object_set_new(o, "filename", json_string(b->path));
    if (i.cluster_size)
        json_object_set_new(o, "cluster-size", json_integer((json_int_t)i.cluster_size));
    json_object_set_new(o, "format", json_string(image_info_format(b)));
    if (image_info_actual_size(b, &actual))
        json_object_set_new(o, "actual-size", json_integer((json_int_t)actual));
    if (i.encrypted)
        json_object_set_new(o, "encrypted", json_true());
    if (i.compressed)
        json_object_set_new(o, "compressed", json_true());
    image_info_backing(o, b, &i);
    if (i.snapshots && json_array_size(i.snapshots))
        json_object_set(o, "snapshots", i.snapshots);
    if (i.specific)
        json_object_set_new(
            o, "format-specific",
            json_pack("{s:s, s:O}", "type", image_info_format(b), "data", i.specific));
    json_object_set_new(o, "dirty-flag", json_boolean(i.dirty));
    if (i.corrupt)
        json_object_set_new(o, "corrupt-flag", json_true());
    json_decref(i.snapshots);
    json_decref(i.specific);
    return o;
}

/* --- for people --- */

static uint64_t image_info_number(const json_t *o, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(o, key));
}

static void image_info_text(const json_t *o, const char *key, const char *label)
{
    const char *s = json_string_value(json_object_get(o, key));

    if (s)
        printf("%s: %s\n", label, s);
}

static void image_info_members(const json_t *o, int indent);

/* "name: value", or a list of what is in it below. */
static void image_info_member(const char *name, const json_t *value, int indent)
{
    char *text;

    if (json_is_object(value) || json_is_array(value)) {
        printf("%*s%s:\n", indent, "", name);
        image_info_members(value, indent + 4);
        return;
    }
    text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY);
    printf("%*s%s: %s\n", indent, "", name, text ? text : json_string_value(value));
    free(text);
}

static void image_info_members(const json_t *o, int indent)
{
    const char *key;
    const json_t *value;
    size_t i;

    json_object_foreach((json_t *)(uintptr_t)o, key, value)
    {
        image_info_member(key, value, indent);
    }
    json_array_foreach((json_t *)(uintptr_t)o, i, value)
    {
        char number[32];

        snprintf(number, sizeof(number), "[%zu]", i);
        image_info_member(number, value, indent);
    }
}

static void image_info_specific(const json_t *data)
{
    if (!json_object_size(data))
        return;
    printf("Format specific information:\n");
    image_info_members(data, 4);
}

void image_print_snapshots(const json_t *list)
{
    size_t k;
    const json_t *s;

    if (!json_array_size(list))
        return;
    printf("Snapshot list:\n%-8s%-24s%10s%21s%16s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK");
    json_array_foreach((json_t *)(uintptr_t)list, k, s)
    {
        time_t date = (time_t)image_info_number(s, "date-sec");
        uint64_t clock = image_info_number(s, "vm-clock-sec");
        char size[32], when[32] = "";
        struct tm tm;

        image_human_size(image_info_number(s, "vm-state-size"), size, sizeof(size));
        if (localtime_r(&date, &tm))
            strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
        printf("%-8s%-24s%10s%21s %02u:%02u:%02u.%03u\n",
               json_string_value(json_object_get(s, "id")),
               json_string_value(json_object_get(s, "name")), size, when, (unsigned)(clock / 3600),
               (unsigned)(clock / 60 % 60), (unsigned)(clock % 60),
               (unsigned)(image_info_number(s, "vm-clock-nsec") / 1000000));
    }
}

static void image_info_print(const json_t *o)
{
    uint64_t size = image_info_number(o, "virtual-size");
    const json_t *specific = json_object_get(o, "format-specific");
    char text[32];

    image_human_size(size, text, sizeof(text));
    image_info_text(o, "filename", "image");
    image_info_text(o, "format", "file format");
    printf("virtual size: %s (%llu bytes)\n", text, (unsigned long long)size);
    if (json_object_get(o, "actual-size")) {
        image_human_size(image_info_number(o, "actual-size"), text, sizeof(text));
        printf("disk size: %s\n", text);
    }
    if (json_object_get(o, "encrypted"))
        printf("encrypted: yes\n");
    if (json_object_get(o, "cluster-size"))
        printf("cluster_size: %llu\n", (unsigned long long)image_info_number(o, "cluster-size"));
    if (json_is_true(json_object_get(o, "dirty-flag")))
        printf("cleanly shut down: no\n");
    if (json_object_get(o, "corrupt-flag"))
        printf("corrupt: yes; `ruche image repair` mends it\n");
    image_info_text(o, "backing-filename", "backing file");
    image_info_text(o, "backing-filename-format", "backing file format");
    image_print_snapshots(json_object_get(o, "snapshots"));
    image_info_specific(json_object_get(specific, "data"));
}

static int image_info_chain(struct blk *b, const struct image_args *a)
{
    json_t *all = json_array();
    size_t k;
    const json_t *o;

    for (; b; b = b->backing)
        json_array_append_new(all, image_info_json(b));
    if (a->json)
        return image_print_json(all);
    json_array_foreach(all, k, o)
    {
        printf("%s", k ? "\n" : "");
        image_info_print(o);
    }
    json_decref(all);
    return CMD_OK;
}

static int image_info(const struct image_args *a, struct image_session *s, struct err *e)
{
    struct blk_opts o = { .path = a->operands[0],
                          .format = a->format,
                          .readonly = true,
                          .share = true, /* nothing but the header is read */
                          .no_backing = !a->chain };
    struct blk *b;
    json_t *json;

    b = image_session_disk(s, &o, e);
    if (!b)
        return 0;
    if (a->chain)
        return image_info_chain(b, a);
    json = image_info_json(b);
    if (a->json)
        return image_print_json(json);
    image_info_print(json);
    json_decref(json);
    return CMD_OK;
}

int cmd_image_info(int argc, char **argv)
{
    return image_run(IMAGE_INFO, argc, argv, 1, 1, image_info);
}
