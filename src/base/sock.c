#include "base/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { SOCK_BACKLOG = 4, SOCK_HOST_MAX = 64 };

/* --- addresses --- */

int sock_parse_unix(const char *what, const char *path, struct sock_addr *a, struct err *e)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };

    memset(a, 0, sizeof(*a));
    if (!*path)
        return err_set(e, EINVAL, "%s: unix: lacks the socket's path; write unix:PATH", what);
    if (strlen(path) >= sizeof(un.sun_path))
        return err_set(e, ENAMETOOLONG, "%s: the socket's path %s is too long: at most %zu bytes",
                       what, path, sizeof(un.sun_path) - 1);
    memcpy(un.sun_path, path, strlen(path) + 1);
    memcpy(&a->ss, &un, sizeof(un));
    a->len = sizeof(un);
    return 0;
}

static bool sock_parse_port(const char *text, uint16_t *port)
{
    unsigned long n;
    char *end;

    if (strlen(text) > 5 || strspn(text, "0123456789") != strlen(text) || !*text)
        return false;
    n = strtoul(text, &end, 10);
    *port = (uint16_t)n;
    return n <= UINT16_MAX;
}

/* host: with the brackets of IPv6. */
static bool sock_parse_host(const char *host, uint16_t port, struct sock_addr *a)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    char text[SOCK_HOST_MAX];
    size_t len = strlen(host);

    if (host[0] == '[' && len > 2 && len - 2 < sizeof(text) && host[len - 1] == ']') {
        memcpy(text, host + 1, len - 2);
        text[len - 2] = '\0';
        memset(&a->ss, 0, sizeof(a->ss));
        if (inet_pton(AF_INET6, text, &in6.sin6_addr) != 1)
            return false;
        memcpy(&a->ss, &in6, sizeof(in6));
        a->len = sizeof(in6);
        return true;
    }
    if (!*host || !strcmp(host, "localhost"))
        host = "127.0.0.1";
    if (inet_pton(AF_INET, host, &in.sin_addr) != 1)
        return false;
    memcpy(&a->ss, &in, sizeof(in));
    a->len = sizeof(in);
    return true;
}

int sock_parse(const char *what, const char *text, struct sock_addr *a, struct err *e)
{
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    char host[SOCK_HOST_MAX];
    uint16_t port;

    memset(a, 0, sizeof(*a));
    if (!strncmp(text, "unix:", 5))
        return sock_parse_unix(what, text + 5, a, e);
    if (n < sizeof(host)) {
        memcpy(host, text, n);
        host[n] = '\0';
        if (sock_parse_port(colon ? colon + 1 : text, &port) && sock_parse_host(host, port, a))
            return 0;
    }
    return err_set(e, EINVAL,
                   "%s: %s is not an address to listen on; write [HOST]:PORT with a numeric HOST, "
                   "like :1234 or 127.0.0.1:1234, or unix:PATH",
                   what, text);
}

void sock_format(const struct sock_addr *a, char *buf, size_t len)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)&a->ss;
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)&a->ss;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)&a->ss;
    char host[INET6_ADDRSTRLEN] = "";

    if (a->ss.ss_family == AF_UNIX) {
        snprintf(buf, len, "%s", un->sun_path);
    } else if (a->ss.ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        snprintf(buf, len, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        snprintf(buf, len, "%s:%u", host, ntohs(in->sin_port));
    }
}

void sock_name(int fd, char *buf, size_t len)
{
    struct sock_addr a = { .len = sizeof(a.ss) };

    if (getsockname(fd, (struct sockaddr *)&a.ss, &a.len))
        snprintf(buf, len, "?");
    else
        sock_format(&a, buf, len);
}

/* --- listening --- */

/* A socket file that nobody listens to any more is left over from a killed process: removes it. */
static int sock_clear_stale(const char *what, const struct sock_addr *a, struct err *e)
{
    const char *path = ((const struct sockaddr_un *)(const void *)&a->ss)->sun_path;
    struct stat st;
    int probe, rc;

    if (lstat(path, &st))
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, EEXIST, "%s: %s exists and is not a socket; choose another path", what,
                       path);
    probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return err_set(e, errno, "cannot make a socket: %s", strerror(errno));
    rc = connect(probe, (const struct sockaddr *)&a->ss, a->len) ? errno : 0;
    close(probe);
    if (rc != ECONNREFUSED)
        return err_set(e, EADDRINUSE,
                       "%s: %s is the socket of a running program; choose another path, or end "
                       "that program",
                       what, path);
    unlink(path);
    return 0;
}

static int sock_listen_failed(const char *what, const struct sock_addr *a, int fd, struct err *e)
{
    int error = errno;
    const char *cure = "";
    char where[160];

    if (error == EADDRINUSE)
        cure = "; another program listens there: choose another port, or end that program";
    else if (error == EADDRNOTAVAIL)
        cure = "; this host does not have that address";
    else if (error == EACCES && a->ss.ss_family != AF_UNIX)
        cure = "; ports below 1024 are root's: choose another one";
    util_close(&fd);
    sock_format(a, where, sizeof(where));
    return err_set(e, error, "%s: cannot listen at %s: %s%s", what, where, strerror(error), cure);
}

int sock_listen(const char *what, const struct sock_addr *a, struct err *e)
{
    bool local = a->ss.ss_family == AF_UNIX;
    int rc = local ? sock_clear_stale(what, a, e) : 0, fd, one = 1;

    if (rc)
        return rc;
    fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(e, errno, "cannot make a socket: %s", strerror(errno));
    if (!local)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    /* The mode goes on before the name exists. */
    if ((local && fchmod(fd, 0600)) || bind(fd, (const struct sockaddr *)&a->ss, a->len) ||
        listen(fd, SOCK_BACKLOG))
        return sock_listen_failed(what, a, fd, e);
    return fd;
}
