/* SPDX-License-Identifier: Apache-2.0 */
/* A text that grows: for pages and tables that are made as a whole. */
#ifndef ISCEP_BASE_WRITER_H
#define ISCEP_BASE_WRITER_H

#include <apr_pools.h>

typedef struct writer_t {
    apr_pool_t *pool;
    char *text;      /**< NUL-terminated */
    apr_size_t len;
    apr_size_t room;
} writer_t;

void writer_begin(writer_t *writer, apr_pool_t *pool);

/** As it is: for texts of the program's own. */
void writer_add(writer_t *writer, const char *text);

/** As by printf, at most 2,047 bytes; what comes from outside is no argument of it. */
void writer_format(writer_t *writer, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Text from outside as it may stand in HTML, in an attribute too: text_escape(), and the rest. NULL adds nothing. */
void writer_html(writer_t *writer, const char *text, apr_size_t max);

/**
 * A text of our own or the administrator's, in which what comes from outside is escaped already: only what HTML needs.
 * Broken UTF-8 and control characters become "?". NULL adds nothing.
 */
void writer_html_own(writer_t *writer, const char *text, apr_size_t max);

/** A text as it may stand in the query of a URL, in HTML as well. */
void writer_query(writer_t *writer, const char *text);

/** A text as the value of a Prometheus label: UTF-8, `\`, `"` and line feeds escaped, other control characters "?". */
void writer_label(writer_t *writer, const char *text);

#endif
