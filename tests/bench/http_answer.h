/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP answer, read from a buffer that grows until it is whole. */
#ifndef BENCH_HTTP_ANSWER_H
#define BENCH_HTTP_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct http_answer_t {
    int status;
    bool keeps; /* the connection can be used again */
    size_t body_len;
    const char *body; /* in the buffer, perhaps in chunks */
    size_t raw_len;   /* up to the buffer's end */
    bool chunked;
} http_answer_t;

typedef enum http_progress_t { HTTP_MORE, HTTP_WHOLE, HTTP_BROKEN } http_progress_t;

/** `ended`: the server has closed, no more will come. */
http_progress_t http_answer_read(http_answer_t *answer, const char *data, size_t len, bool ended);

/** Copies the body of a whole answer, `body_len` bytes, without what chunks have around them. */
void http_answer_body(const http_answer_t *answer, char *out);

#endif
