/*
 * rpc.h: JSON-RPC 2.0 (jsonrpc.org/specification), one object a line: what requests and replies look like.
 * Strict: no batches, no parameters by position, no members that the specification does not have, no
 * duplicates. No state, any thread.
 */
#ifndef CONTROL_RPC_H
#define CONTROL_RPC_H

#include <jansson.h>

#include "base/err.h"

enum { RPC_LINE_MAX = 64 * KIB }; /* of a request */
enum {
    RPC_PARSE_ERROR = -32700,
    RPC_INVALID_REQUEST = -32600,
    RPC_NO_METHOD = -32601,
    RPC_INVALID_PARAMS = -32602,
    RPC_FAILED =
        -32000, /* understood, and could not be done; the message is a sentence for the user */
};

struct rpc_request {
    json_t *root;       /* holds all that follows */
    json_t *id;         /* NULL: a notification, which gets no reply */
    const char *method; /* never NULL after success */
    json_t *params;     /* an object */
};

/* 0 (rpc_request_fini() is due), or the error's code with its message in *e and the id, if it had one, in q. */
must_check int rpc_request_parse(struct rpc_request *q, const char *line, size_t len,
                                 struct err *e);
void rpc_request_fini(struct rpc_request *q);

/* Lines with their newline, malloc'd; NULL: out of memory. id NULL: null. result is taken. */
char *rpc_request_line(const char *method, json_t *params, unsigned id);
char *rpc_result_line(json_t *id, json_t *result);
char *rpc_error_line(json_t *id, int code, const char *message);

/*
 * A reply: 0 with the result (the caller's), or a negative number with the error's message in *e:
 * the code, or -EPROTO for what is no reply to that id.
 */
must_check int rpc_reply_parse(const char *line, size_t len, unsigned id, json_t **result,
                               struct err *e);

#endif
