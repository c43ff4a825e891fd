/*
 * port_holder.h: who on this host listens on a port, for error messages. Any thread; reads /proc.
 */
#ifndef NET_PORT_HOLDER_H
#define NET_PORT_HOLDER_H

#include "base/util.h"

/* "nginx (process 812)", or where to ask when the process is another user's. Always a phrase. */
void port_holder_find(bool udp, uint16_t port, char *buf, size_t len);

#endif
