/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directives: one table (settings.def), values as text with the place where they were given, one generic merge. No
 * httpd is needed for it: the command-line tool reads the server's configuration with the same rules.
 */
#ifndef ISCEP_GATEWAY_SETTINGS_H
#define ISCEP_GATEWAY_SETTINGS_H

#include "scep/scep.h"

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>
#include <stdbool.h>

typedef enum setting_id_t {
#define SETTING(symbol, name, scope, kind, low, high, fallback, help) SETTING_##symbol,
#include "settings.def"
#undef SETTING
    SETTING_COUNT
} setting_id_t;

typedef enum setting_scope_t { SETTING_OF_SERVER, SETTING_OF_LOCATION } setting_scope_t;

/** One value. Where nobody set it, `value` is NULL and the default of the table holds. */
typedef struct setting_t {
    const char *value;
    const char *second; /**< the second argument where the directive takes one and it was given */
    const char *file;
    int line;
} setting_t;

/**
 * The directives of one section, or of several merged. `section` is the innermost section that had any: it leads to the
 * profile that was made of them at start.
 */
typedef struct settings_t {
    const struct settings_t *section;
    bool touched; /**< whether any directive stands in it */
    setting_t set[SETTING_COUNT];
} settings_t;

/** Where a cloud of Microsoft's has its services. */
typedef struct cloud_t {
    const char *name;
    const char *authority;
    const char *graph_url;
    const char *intune_url;
} cloud_t;

/** A cloud by its name in IntuneScepCloud; NULL for an unknown one. */
const cloud_t *setting_cloud(const char *name);

/** Where a directive stands. */
typedef struct setting_place_t {
    const char *root; /**< ServerRoot, for paths that are not absolute */
    const char *file;
    int line;
} setting_place_t;

/**
 * Takes a directive's arguments, if they may be its value: NULL, or one sentence that names the directive. A path becomes
 * absolute.
 */
const char *setting_take(settings_t *settings, setting_id_t id, int count, const char *const values[],
                         const setting_place_t *place, apr_pool_t *pool);

/** Whether a directive with this first argument has a secret in it, and not only the place of one. */
bool setting_holds_secret(setting_id_t id, const char *value);

/** A path below `root`, or as it is where it is absolute; NULL for one that cannot be used. */
const char *setting_path(const char *root, const char *path, apr_pool_t *pool);

/** Whether every URL below `inner` is also below `outer`, as <Location> compares. */
bool setting_path_contains(const char *outer, const char *inner);

/** create_dir_config and merge_dir_config of the module. */
void *settings_create(apr_pool_t *pool, char *path);
void *settings_merge(apr_pool_t *pool, void *base, void *add);

/** Whether all directives have the same values. */
bool settings_are_same(const settings_t *one, const settings_t *other);

/** The value or its default; NULL without both. */
const char *setting_text(const settings_t *settings, setting_id_t id);
bool setting_flag(const settings_t *settings, setting_id_t id);
/** A number that was checked while parsing; 0 where there is neither value nor default. */
int setting_number(const settings_t *settings, setting_id_t id);

/** A duration that was checked while parsing, in microseconds; 0 where there is neither value nor default. */
apr_interval_time_t setting_duration(const settings_t *settings, setting_id_t id);
/** Ciphers and digests; where the directive names none of one kind, those of its default. */
scep_algorithms_t setting_algorithms(const settings_t *settings, setting_id_t id, apr_pool_t *pool);

/** SCEP_CAP_… bits; 0 for auto. */
unsigned setting_capabilities(const settings_t *settings, setting_id_t id, apr_pool_t *pool);

/**
 * The directives that somebody set, of the whole server or of a location, for people: of `status_setting_t`. Secrets are
 * "***", of commands there is the program only.
 */
apr_array_header_t *settings_shown(const settings_t *settings, bool of_server, apr_pool_t *pool);

/** "IntuneScepTenant (FILE line 12)", or "IntuneScepTenant" where nobody set it: for messages at start. */
const char *setting_place(const settings_t *settings, setting_id_t id, apr_pool_t *pool);
const char *setting_name(setting_id_t id);
setting_scope_t setting_scope(setting_id_t id);

/** The directive of that name, in any letter case; SETTING_COUNT where there is none. */
setting_id_t setting_find(const char *name);

#endif
