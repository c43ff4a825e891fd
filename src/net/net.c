#include "net/net.h"

#include <errno.h>
#include <string.h>

#include "net/user.h"

static const struct net_ops *const net_kinds[] = { &user_ops };

struct net *net_open(const char *type, const struct net_opts *o, struct err *e)
{
    const struct net_ops *ops = NULL;
    struct net *n;

    for (size_t i = 0; i < ARRAY_SIZE(net_kinds); i++)
        if (!strcmp(net_kinds[i]->type, type))
            ops = net_kinds[i];
    if (!ops) {
        err_set(e, EINVAL, "'%s' is not a kind of network: use user or none", type);
        return NULL;
    }
    n = calloc(1, sizeof(*n));
    if (!n)
        return err_oom(e);
    n->ops = ops;
    if (!ops->open(n, o, e))
        return n;
    free(n);
    return NULL;
}

void net_close(struct net *n)
{
    if (!n)
        return;
    n->ops->close(n);
    free(n);
}
