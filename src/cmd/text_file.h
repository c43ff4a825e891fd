/*
 * text_file.h: small text files that options name. Single thread.
 */
#ifndef CMD_TEXT_FILE_H
#define CMD_TEXT_FILE_H

#include "base/err.h"

/* All of it (malloc'd), of at most max bytes and without zeros; what names the option in the sentence. */
must_check int text_file_read(const char *what, const char *path, size_t max, char **text,
                              struct err *e);
/* Refuses what is no public key of OpenSSH. */
must_check int text_file_check_key(const char *what, const char *path, struct err *e);

#endif
