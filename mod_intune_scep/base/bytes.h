/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISCEP_BASE_BYTES_H
#define ISCEP_BASE_BYTES_H

#include <apr.h>
#include <stdbool.h>
#include <string.h>

/** A run of bytes that somebody else owns. It may hold NULs; `data` is NULL only where `len` is 0. */
typedef struct bytes_t {
    const unsigned char *data;
    apr_size_t len;
} bytes_t;

/** Whether two runs hold the same bytes: length first, then every byte. Not constant-time. */
static inline bool bytes_equal(bytes_t a, bytes_t b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/** The bytes of a C string, without its NUL. */
static inline bytes_t bytes_of_text(const char *text)
{
    bytes_t bytes = {(const unsigned char *)text, strlen(text)};
    return bytes;
}

#endif
