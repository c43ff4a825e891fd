/* text_file.c: see text_file.h. */
#include "cmd/text_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int text_file_read(const char *what, const char *path, size_t max, char **text, struct err *e)
{
    FILE *f = fopen(path, "re");
    char *buf = malloc(max + 2);
    size_t len = f && buf ? fread(buf, 1, max + 1, f) : 0;
    int rc = 0;

    if (!f)
        rc = err_set(e, errno, "%s %s: %s", what, path, strerror(errno));
    else if (!buf)
        rc = err_set(e, ENOMEM, "out of memory");
    else if (ferror(f))
        rc = err_set(e, EIO, "%s %s cannot be read; is it a regular file?", what, path);
    else if (len > max)
        rc = err_set(e, EFBIG, "%s %s has more than %zu bytes", what, path, max);
    else if (memchr(buf, 0, len))
        rc = err_set(e, EINVAL, "%s %s is no text", what, path);
    if (f)
        fclose(f);
    if (rc || !buf) {
        free(buf);
        return rc;
    }
    buf[len] = '\0';
    *text = buf;
    return 0;
}

int text_file_check_key(const char *what, const char *path, struct err *e)
{
    char line[64] = "";
    FILE *f = fopen(path, "re");

    if (!f)
        return err_set(e, errno, "%s %s: %s", what, path, strerror(errno));
    if (!fgets(line, sizeof(line), f))
        line[0] = '\0';
    fclose(f);
    if (strstr(line, "PRIVATE KEY"))
        return err_set(e, EINVAL, "%s %s is a private key, which stays with you: give %s.pub", what,
                       path, path);
    if (strncmp(line, "ssh-", 4) && strncmp(line, "ecdsa-", 6) && strncmp(line, "sk-", 3))
        return err_set(e, EINVAL,
                       "%s %s is no public key of OpenSSH: its first line begins with ssh- or "
                       "ecdsa-",
                       what, path);
    return 0;
}
