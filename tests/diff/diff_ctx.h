/*
 * diff_ctx.h: the layout of struct diff_host_ctx, for diff_enter.S.
 */
#ifndef TESTS_DIFF_CTX_H
#define TESTS_DIFF_CTX_H

#define DIFF_CTX_GPR    2816
#define DIFF_CTX_RFLAGS (DIFF_CTX_GPR + 128)
#define DIFF_CTX_HOST   (DIFF_CTX_GPR + 192)
#define DIFF_CTX_MASK   (DIFF_CTX_HOST + 8)
#define DIFF_CTX_FAR    (DIFF_CTX_HOST + 16)
#define DIFF_CTX_INIT   (DIFF_CTX_HOST + 64)

#endif
