/*
 * image_key.c: see image_key.h.
 */
#include "cmd/image_key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

void image_key_forget(struct image_key *k)
{
    explicit_bzero(k, sizeof(*k));
}

static void image_key_trim(struct image_key *k, size_t n)
{
    while (n && (k->text[n - 1] == '\n' || k->text[n - 1] == '\r'))
        n--;
    k->text[n] = '\0';
}

int image_key_read(struct image_key *k, const char *path, struct err *e)
{
    bool is_stdin = !strcmp(path, "-");
    FILE *f = is_stdin ? stdin : fopen(path, "re");
    size_t n;

    if (!f)
        return err_set(e, errno, "the key file '%s' cannot be opened: %s", path, strerror(errno));
    n = fread(k->text, 1, sizeof(k->text), f);
    if (!is_stdin)
        fclose(f);
    if (n == sizeof(k->text))
        return err_set(e, EINVAL, "the key file '%s' is longer than a passphrase can be: %zu bytes",
                       path, n - 1);
    image_key_trim(k, n);
    if (!*k->text)
        return err_set(e, EINVAL, "the key file '%s' is empty", path);
    k->known = true;
    return 0;
}

/* A line without echo. */
static bool image_key_line(int tty, struct image_key *k, const char *text, const char *image)
{
    struct termios old, quiet;
    ssize_t n;

    if (tcgetattr(tty, &old))
        return false;
    quiet = old;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    quiet.c_lflag |= ICANON;
    dprintf(tty, "%s '%s': ", text, image);
    tcsetattr(tty, TCSAFLUSH, &quiet);
    n = read(tty, k->text, sizeof(k->text) - 1);
    tcsetattr(tty, TCSAFLUSH, &old);
    dprintf(tty, "\n");
    if (n <= 0)
        return false;
    image_key_trim(k, (size_t)n);
    return *k->text;
}

bool image_key_ask(struct image_key *k, const char *image, bool twice)
{
    struct image_key again = { 0 };
    int tty = isatty(STDIN_FILENO) ? open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY) : -1;

    if (tty < 0)
        return false;
    k->known = image_key_line(tty, k, twice ? "New passphrase of" : "Passphrase of", image);
    if (k->known && twice) {
        k->known =
            image_key_line(tty, &again, "Once more, of", image) && !strcmp(again.text, k->text);
        if (!k->known)
            dprintf(tty, "These are two different passphrases.\n");
    }
    image_key_forget(&again);
    close(tty);
    return k->known;
}
