/* rpc.c: see rpc.h. */
#include "control/rpc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { RPC_ID_MAX = 256 };

static bool rpc_id_ok(const json_t *id)
{
    if (json_is_string(id))
        return json_string_length(id) <= RPC_ID_MAX;
    return json_is_number(id) || json_is_null(id);
}

static bool rpc_is_version_2(const json_t *root)
{
    const char *version = json_string_value(json_object_get(root, "jsonrpc"));

    return version && !strcmp(version, "2.0");
}

/* The reason why it is no request, or NULL. */
static const char *rpc_request_fault(struct rpc_request *q)
{
    size_t members = 2;
    json_t *id, *method;

    if (json_is_array(q->root))
        return "batches are not taken: send one object a line";
    if (!json_is_object(q->root))
        return "a request is an object";
    id = json_object_get(q->root, "id");
    if (id && !rpc_id_ok(id))
        return "id must be a string, a number or null";
    q->id = id;
    if (!rpc_is_version_2(q->root))
        return "\"jsonrpc\": \"2.0\" is missing";
    method = json_object_get(q->root, "method");
    if (!json_is_string(method))
        return "method must be a string";
    q->method = json_string_value(method);
    q->params = json_object_get(q->root, "params");
    members += (size_t)(id != NULL) + (size_t)(q->params != NULL);
    if (json_object_size(q->root) != members)
        return "a request has only jsonrpc, method, params and id";
    return NULL;
}

int rpc_request_parse(struct rpc_request *q, const char *line, size_t len, struct err *e)
{
    const char *fault;
    json_error_t je;

    *q = (struct rpc_request){ 0 };
    q->root = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
    if (!q->root) {
        err_set(e, EINVAL, "not JSON: %s", je.text);
        return RPC_PARSE_ERROR;
    }
    fault = rpc_request_fault(q);
    if (fault) {
        err_set(e, EINVAL, "%s", fault);
        return RPC_INVALID_REQUEST;
    }
    if (!q->params) {
        q->params = json_object();
        if (!q->params || json_object_set_new(q->root, "params", q->params)) {
            err_set(e, ENOMEM, "out of memory");
            return RPC_FAILED;
        }
    } else if (!json_is_object(q->params)) {
        err_set(e, EINVAL, "params must be an object: parameters have names");
        return RPC_INVALID_PARAMS;
    }
    return 0;
}

void rpc_request_fini(struct rpc_request *q)
{
    json_decref(q->root);
    *q = (struct rpc_request){ 0 };
}

/* Takes o. */
static char *rpc_line(json_t *o)
{
    size_t len = o ? json_dumpb(o, NULL, 0, JSON_COMPACT) : 0;
    char *text = len ? malloc(len + 2) : NULL;

    if (text && json_dumpb(o, text, len, JSON_COMPACT) == len) {
        text[len] = '\n';
        text[len + 1] = '\0';
    } else {
        free(text);
        text = NULL;
    }
    json_decref(o);
    return text;
}

char *rpc_request_line(const char *method, json_t *params, unsigned id)
{
    return rpc_line(json_pack("{s:s, s:s, s:o*, s:I}", "jsonrpc", "2.0", "method", method, "params",
                              params, "id", (json_int_t)id));
}

char *rpc_result_line(json_t *id, json_t *result)
{
    return rpc_line(json_pack("{s:s, s:o, s:O?}", "jsonrpc", "2.0", "result", result, "id", id));
}

char *rpc_error_line(json_t *id, int code, const char *message)
{
    return rpc_line(json_pack("{s:s, s:{s:i, s:s}, s:O?}", "jsonrpc", "2.0", "error", "code", code,
                              "message", message, "id", id));
}

int rpc_reply_parse(const char *line, size_t len, unsigned id, json_t **result, struct err *e)
{
    json_t *root = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL), *error, *value;
    int rc = -EPROTO;

    if (!rpc_is_version_2(root) ||
        json_integer_value(json_object_get(root, "id")) != (json_int_t)id) {
        err_set(e, EPROTO, "what came back is no answer to the question");
        json_decref(root);
        return rc;
    }
    error = json_object_get(root, "error");
    value = json_object_get(root, "result");
    if (value) {
        *result = json_incref(value);
        rc = 0;
    } else {
        const char *message = json_string_value(json_object_get(error, "message"));

        rc = (int)json_integer_value(json_object_get(error, "code"));
        rc = rc < 0 ? rc : -EPROTO;
        err_set(e, EPROTO, "%s", message ? message : "the VM gave no reason");
    }
    json_decref(root);
    return rc;
}
