/*
 * rpc_server.h: serves a table of methods to several clients of a socket (control/rpc.h says the format).
 * A client's requests are answered one after the other, in their order; a method may answer later, and
 * other clients go on meanwhile. What is kept for a client is bounded: who sends too long a line is told so
 * and left; who does not read its replies is not read from. Loop thread, or before it runs.
 */
#ifndef CONTROL_RPC_SERVER_H
#define CONTROL_RPC_SERVER_H

#include "base/loop.h"
#include "control/rpc.h"

enum { RPC_CLIENTS_MAX = 32 };

struct rpc_server;
struct rpc_call; /* a request that waits for its answer */

struct rpc_method {
    const char *name;
    const char *params; /* what a user is told of them, "" if it takes none */
    const char *text;   /* what it does, in a few words */
    /* Exactly one rpc_answer() or rpc_refuse() follows, now or later. params is valid during the call. */
    void (*call)(void *opaque, struct rpc_call *c, json_t *params);
};

/* Takes listen_fd if it succeeds; -1: only rpc_server_adopt() brings clients. NULL with a sentence. */
struct rpc_server *rpc_server_create(struct loop *l, int listen_fd,
                                     const struct rpc_method *methods, size_t n_methods,
                                     void *opaque, struct err *e);
/* Calls that still wait are refused. Replies that do not leave at once are lost. NULL is fine. */
void rpc_server_destroy(struct rpc_server *s);
/* One more client, on a connected stream socket; owned by the server if it returns 0. */
must_check int rpc_server_adopt(struct rpc_server *s, int fd);

/* The last file descriptor that came beside the client's bytes (SCM_RIGHTS): the caller's now; -1: none. */
int rpc_take_fd(struct rpc_call *c);
void rpc_answer(struct rpc_call *c, json_t *result); /* takes result; NULL: out of memory */
void rpc_refuse(struct rpc_call *c, int code, const char *fmt, ...) printf_like(3, 4);

#endif
