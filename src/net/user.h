/*
 * user.h: the network without privileges: a TCP/IP stack in this process that speaks for the guest
 * through ordinary sockets. Used through net.h.
 */
#ifndef NET_USER_H
#define NET_USER_H

#include "net/net.h"

extern const struct net_ops user_ops;

#endif
