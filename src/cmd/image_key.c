/*
 * image_key.c: see image_key.h.
 */
#include "cmd/image_key.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
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

/* Blocks what ends or stops us: the terminal has to be as it was before that. */
static void image_key_block_signals(sigset_t *set, sigset_t *old)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };

    sigemptyset(set);
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        sigaddset(set, signals[i]);
    sigprocmask(SIG_BLOCK, set, old);
}

/* Until there is a line to be read. False: a signal came; it stays pending. */
static bool image_key_wait(int tty, const sigset_t *set)
{
    int fd = signalfd(-1, set, SFD_CLOEXEC);
    struct pollfd p[2] = { { .fd = tty, .events = POLLIN }, { .fd = fd, .events = POLLIN } };

    while (poll(p, ARRAY_SIZE(p), -1) < 0 && errno == EINTR)
        ;
    util_close(&fd);
    return !p[1].revents;
}

/* A line without echo: its length, or -1; -EINTR: a signal came, and we live. */
static ssize_t image_key_read_line(int tty, struct image_key *k, const char *text,
                                   const char *image)
{
    struct termios old, quiet;
    sigset_t set, old_mask;
    ssize_t n = -EINTR;

    if (tcgetattr(tty, &old))
        return -1;
    quiet = old;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    quiet.c_lflag |= ICANON;
    image_key_block_signals(&set, &old_mask);
    dprintf(tty, "%s '%s': ", text, image);
    tcsetattr(tty, TCSAFLUSH, &quiet);
    if (image_key_wait(tty, &set))
        n = read(tty, k->text, sizeof(k->text) - 1);
    tcsetattr(tty, TCSAFLUSH, &old);
    dprintf(tty, "\n");
    sigprocmask(SIG_SETMASK, &old_mask, NULL); /* here it ends or stops us */
    return n;
}

static bool image_key_line(int tty, struct image_key *k, const char *text, const char *image)
{
    ssize_t n;

    do
        n = image_key_read_line(tty, k, text, image);
    while (n == -EINTR);
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
