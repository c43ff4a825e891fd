/*
 * rpc_client.h: the other end of a VM's control socket: one call after the other, each waited for. Single
 * thread; the struct is the caller's.
 */
#ifndef CONTROL_RPC_CLIENT_H
#define CONTROL_RPC_CLIENT_H

#include "control/rpc.h"

enum { RPC_NO_LIMIT = -1 };

struct rpc_client {
    int fd;
    unsigned id; /* of the last request */
    int pass;    /* goes with the next one; -1: nothing. Not owned */
};

/* Takes fd, a connected socket. */
void rpc_client_init(struct rpc_client *c, int fd);
void rpc_client_fini(struct rpc_client *c);
/* Sends fd (which stays the caller's, and open until then) beside the next request. */
void rpc_client_pass(struct rpc_client *c, int fd);
/*
 * Sends method with params (taken; NULL: none) and waits for its result (the caller's; NULL: not wanted).
 * 0, or negative with a sentence: a code of control/rpc.h, -ETIMEDOUT, -ECONNRESET (the other end is gone).
 */
must_check int rpc_client_call(struct rpc_client *c, const char *method, json_t *params,
                               int timeout_ms, json_t **result, struct err *e);
/* Waits until the other end is gone; 0 or -ETIMEDOUT. */
must_check int rpc_client_wait_end(struct rpc_client *c, int timeout_ms);

#endif
