/*
 * seed.c: see seed.h. JSON is YAML, so that nothing in a name or a key has to be quoted by rules of our own.
 */
#include "image/seed.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "image/iso9660.h"

enum { SEED_ID_MAX = 128 };

static json_t *seed_keys(const char *text)
{
    json_t *keys = json_array();

    while (text && *text) {
        size_t len = strcspn(text, "\r\n");

        if (len && text[0] != '#')
            json_array_append_new(keys, json_stringn(text, len));
        text += len + strspn(text + len, "\r\n");
    }
    return keys;
}

static json_t *seed_user(const struct seed_opts *o)
{
    json_t *user = json_pack("{s:s, s:s, s:s, s:b}", "name", o->user, "shell", "/bin/bash", "sudo",
                             "ALL=(ALL) NOPASSWD:ALL", "lock_passwd", o->password == NULL);

    if (o->password)
        json_object_set_new(user, "plain_text_passwd", json_string(o->password));
    if (o->ssh_keys)
        json_object_set_new(user, "ssh_authorized_keys", seed_keys(o->ssh_keys));
    return user;
}

/* "#cloud-config" and what follows; malloc'd. */
static char *seed_user_data(const struct seed_opts *o)
{
    json_t *root = json_object();
    char *json, *text = NULL;

    if (o->user)
        json_object_set_new(root, "users", json_pack("[o]", seed_user(o)));
    else if (o->ssh_keys)
        json_object_set_new(root, "ssh_authorized_keys", seed_keys(o->ssh_keys));
    json_object_set_new(root, "preserve_hostname", json_false());
    json = json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(root);
    if (json && asprintf(&text, "#cloud-config\n%s\n", json) < 0)
        text = NULL;
    free(json);
    return text;
}

/* FNV-1a: another text is another instance, and is taken up at the next start. */
static uint64_t seed_hash(uint64_t hash, const char *text)
{
    for (; *text; text++)
        hash = (hash ^ (uint8_t)*text) * 1099511628211ull;
    return hash;
}

static char *seed_meta_data(const struct seed_opts *o, const char *user_data)
{
    const char *host = o->hostname ? o->hostname : o->name;
    uint64_t hash = seed_hash(seed_hash(14695981039346656037ull, user_data), host);
    char id[SEED_ID_MAX], *text;
    json_t *meta;

    snprintf(id, sizeof(id), "ruche-%s-%016llx", o->name, (unsigned long long)hash);
    meta = json_pack("{s:s, s:s}", "instance-id", id, "local-hostname", host);
    text = meta ? json_dumps(meta, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : NULL;
    json_decref(meta);
    return text;
}

uint8_t *seed_make(const struct seed_opts *o, size_t *len, struct err *e)
{
    char *user_data = o->user_data ? strdup(o->user_data) : seed_user_data(o);
    char *meta_data = user_data ? seed_meta_data(o, user_data) : NULL;
    uint8_t *volume = NULL;

    if (meta_data) {
        const struct iso9660_file files[] = {
            { "meta-data", meta_data, strlen(meta_data) },
            { "user-data", user_data, strlen(user_data) },
        };

        volume = iso9660_make("cidata", files, ARRAY_SIZE(files), len, e);
    } else {
        err_set(e, EINVAL, "what the guest is to be told is not valid UTF-8 text");
    }
    free(meta_data);
    free(user_data);
    return volume;
}
