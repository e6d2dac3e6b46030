/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in's small tools: base64, UUIDs, JSON, forms. */
#ifndef SIM_MS_UTIL_H
#define SIM_MS_UTIL_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <json-c/json.h>

#define MSIM_BODY_MAX (1024 * 1024)

/** Strict RFC 4648 base64 in one line, canonical padding; NULL otherwise. */
unsigned char *msim_base64_decode(const char *text, apr_size_t length, apr_size_t *decoded, apr_pool_t *pool);
char *msim_base64_encode(const unsigned char *data, apr_size_t length, apr_pool_t *pool);
const char *msim_uuid(apr_pool_t *pool);
int msim_is_uuid(const char *text);
/** Text or NULL for an object's member; a string with a NUL in it is no text. */
const char *msim_json_text(json_object *object, const char *name);
/** Strict JSON in valid UTF-8 and nothing behind it; NULL otherwise. Freed with the pool. */
json_object *msim_json_parse(const char *text, apr_size_t length, apr_pool_t *pool);
/** One line of JSON in the pool. */
const char *msim_json_print(json_object *object, apr_pool_t *pool);
/** A sentence about a member that is missing or not among `names` (ending with NULL), or NULL. */
const char *msim_json_exactly(json_object *object, const char *const *names, apr_pool_t *pool);
/** The same for members that may be absent. */
const char *msim_json_only(json_object *object, const char *const *names, apr_pool_t *pool);
/** NULL for a malformed form, or one with a field twice. */
apr_table_t *msim_form_parse(const char *text, apr_pool_t *pool);
/** malloc that ends the process rather than fail; copies NULL to NULL. */
char *msim_strdup(const char *text);
/** A media type without regard to its parameters. */
int msim_is_type(const char *header, const char *type);

#endif
