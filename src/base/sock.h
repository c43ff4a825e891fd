/*
 * sock.h: addresses as users write them, and sockets that listen there. Any thread.
 */
#ifndef BASE_SOCK_H
#define BASE_SOCK_H

#include <sys/socket.h>

#include "base/err.h"

struct sock_addr {
    struct sockaddr_storage ss;
    socklen_t len;
};

/*
 * "[HOST]:PORT" or "PORT" (HOST: a numeric address, IPv6 in brackets, or localhost; none: 127.0.0.1), or
 * "unix:PATH". what names the option in the sentence. 0 or -errno.
 */
must_check int sock_parse(const char *what, const char *text, struct sock_addr *a, struct err *e);

/* The same for a path alone. */
must_check int sock_parse_unix(const char *what, const char *path, struct sock_addr *a,
                               struct err *e);

/*
 * A listening socket, CLOEXEC and not blocking, or -errno. A unix one is its owner's only (mode 0600); a
 * socket file that nobody listens to any more is replaced. what as above.
 */
must_check int sock_listen(const char *what, const struct sock_addr *a, struct err *e);

/* As "127.0.0.1:1234", "[::1]:1234" or the path. */
void sock_format(const struct sock_addr *a, char *buf, size_t len);
/* Where fd listens, in the same form. */
void sock_name(int fd, char *buf, size_t len);

#endif
