/* SPDX-License-Identifier: Apache-2.0 */
/* JSON that is written for other programs: any text may go in, plain ASCII comes out. */
#ifndef ISCEP_BASE_JSON_H
#define ISCEP_BASE_JSON_H

#include <apr_pools.h>
#include <apr_time.h>
#include <stdbool.h>

struct json_object;

/** Adds a text to an object; broken UTF-8 becomes "?". NULL adds nothing. Gives false without memory. */
bool json_add_text(struct json_object *object, const char *name, const char *text, apr_pool_t *pool);

/** Adds any other value, which belongs to the object then, or is freed. False without memory, also for a NULL value. */
bool json_add(struct json_object *object, const char *name, struct json_object *value);

/**
 * The document in one line of printable ASCII: everything else, control characters and what changes a text's direction
 * included, is escaped. NULL without memory.
 */
const char *json_ascii(struct json_object *document, apr_pool_t *pool);

/** "2026-01-31T12:00:00Z" */
const char *json_time(apr_time_t time, apr_pool_t *pool);

#endif
