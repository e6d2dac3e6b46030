/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "http_answer.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The value of a header, without the blanks before it, or NULL. `end` is where the empty line begins. */
static const char *header(const char *head, const char *end, const char *name)
{
    size_t len = strlen(name);
    const char *line = head;

    while ((line = memmem(line, (size_t)(end - line), "\r\n", 2)) != NULL) {
        line += 2;
        if ((size_t)(end - line) > len && strncasecmp(line, name, len) == 0 && line[len] == ':') {
            line += len + 1;
            return line + strspn(line, " \t");
        }
    }
    return NULL;
}

/* The body's length where its chunks are whole, else -1; copied to `out`, if there is one. */
static long chunks_read(const char *at, const char *end, char *out)
{
    long sum = 0;

    for (;;) {
        const char *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
        long size = line_end ? strtol(at, NULL, 16) : -1;

        if (size < 0 || end - (line_end + 2) < size + 2) {
            return -1;
        }
        if (size == 0) {
            return sum;
        }
        if (out) {
            memcpy(out + sum, line_end + 2, (size_t)size);
        }
        sum += size;
        at = line_end + 2 + size + 2;
    }
}

http_progress_t http_answer_read(http_answer_t *answer, const char *data, size_t len, bool ended)
{
    const char *end = memmem(data, len, "\r\n\r\n", 4);
    const char *value = NULL;
    long length = -1;

    if (!end) {
        return ended ? HTTP_BROKEN : HTTP_MORE;
    }
    if (len < 12 || strncmp(data, "HTTP/1.", 7) != 0) {
        return HTTP_BROKEN;
    }
    answer->status = atoi(data + 9);
    value = header(data, end, "Connection");
    answer->keeps = !value || strncasecmp(value, "close", 5) != 0;
    answer->body = end + 4;
    answer->raw_len = (size_t)(data + len - answer->body);
    answer->chunked = false;
    if ((value = header(data, end, "Content-Length")) != NULL) {
        length = atol(value);
        length = len - (size_t)(answer->body - data) >= (size_t)length ? length : -1;
    } else if ((value = header(data, end, "Transfer-Encoding")) != NULL && strncasecmp(value, "chunked", 7) == 0) {
        length = chunks_read(answer->body, data + len, NULL);
        answer->chunked = true;
    } else if (ended) {
        length = (long)(data + len - answer->body);
        answer->keeps = false;
    }
    if (length < 0) {
        return ended ? HTTP_BROKEN : HTTP_MORE;
    }
    answer->body_len = (size_t)length;
    return HTTP_WHOLE;
}

void http_answer_body(const http_answer_t *answer, char *out)
{
    if (answer->chunked) {
        /* As whole as it was the first time: the last chunk ends it. */
        chunks_read(answer->body, answer->body + answer->raw_len, out);
    } else {
        memcpy(out, answer->body, answer->body_len);
    }
}
