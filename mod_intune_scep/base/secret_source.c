/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"

#include "base/clock.h"
#include "base/command.h"
#include "base/heap_root.h"
#include "base/secret_file.h"
#include "base/text.h"

#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <openssl/crypto.h>
#include <stdlib.h>

enum { PATH_SHOWN = 512 };

static const apr_interval_time_t command_limit = 10 * APR_USEC_PER_SEC;
static const apr_interval_time_t command_pause = 60 * APR_USEC_PER_SEC;

typedef enum kind_t { KIND_LITERAL, KIND_FILE, KIND_EXEC, KIND_ENV } kind_t;

/* The value is on the heap: a file that changes again and again must not grow the pool. */
struct secret_source_t {
    kind_t kind;
    const char *name; /* the path, the command or the variable */
    apr_thread_mutex_t *mutex;
    char *value;
    apr_size_t len;
    struct stat seen; /* of the file when its value was read */
    bool running;     /* a command, again, in some thread; its value comes later */
    bool ran_again;
    apr_time_t ran_at;
};

static kind_t specification_split(const char *specification, const char **name)
{
    static const struct {
        const char *prefix;
        kind_t kind;
    } prefixes[] = {{"file:", KIND_FILE}, {"exec:", KIND_EXEC}, {"env:", KIND_ENV}};
    apr_size_t i;

    for (i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        apr_size_t len = strlen(prefixes[i].prefix);

        if (strncmp(specification, prefixes[i].prefix, len) == 0) {
            *name = specification + len;
            return prefixes[i].kind;
        }
    }
    *name = specification;
    return KIND_LITERAL;
}

bool secret_is_literal(const char *specification)
{
    const char *name;

    return specification_split(specification, &name) == KIND_LITERAL;
}

static apr_status_t command_read(const char *text, secret_file_t *raw, apr_interval_time_t limit, apr_pool_t *pool,
                                 const char **message)
{
    command_t command = {.text = text, .output = raw->bytes, .room = SECRET_FILE_MAX, .limit = limit};
    apr_status_t rv = command_run(&command, pool, message);

    raw->len = command.len;
    /* raw_fault() has the words for that. */
    if (APR_STATUS_IS_INCOMPLETE(rv)) {
        raw->len = SECRET_FILE_MAX + 1;
        rv = APR_SUCCESS;
    }
    return rv;
}

static apr_status_t environment_read(const char *variable, secret_file_t *raw, apr_pool_t *pool, const char **message)
{
    const char *value = *variable ? getenv(variable) : NULL;

    if (!value) {
        *message = apr_psprintf(pool, "the environment has no variable \"%s\"", text_escape(pool, variable, 64));
        return APR_NOTFOUND;
    }
    raw->len = strnlen(value, sizeof(raw->bytes));
    memcpy(raw->bytes, value, raw->len);
    return APR_SUCCESS;
}

/* What is wrong with what was read, or NULL; takes the line end off. */
static const char *raw_fault(secret_file_t *raw)
{
    if (raw->len > SECRET_FILE_MAX)
        return "is longer than 64 KiB";
    if (raw->len > 0 && raw->bytes[raw->len - 1] == '\n')
        raw->len--;
    if (raw->len > 0 && raw->bytes[raw->len - 1] == '\r')
        raw->len--;
    if (raw->len == 0)
        return "is empty";
    if (memchr(raw->bytes, '\0', raw->len))
        return "holds a NUL";
    /* Windows' editors write one; it would belong to the secret. */
    if (raw->len >= 3 && memcmp(raw->bytes, "\xef\xbb\xbf", 3) == 0)
        return "begins with a byte order mark: save it without";
    if (memchr(raw->bytes, '\n', raw->len) || memchr(raw->bytes, '\r', raw->len))
        return "holds more than one line";
    return NULL;
}

/* Reads and judges; changes nothing in the source. */
static apr_status_t source_fetch(const secret_source_t *source, secret_file_t *raw, apr_interval_time_t limit,
                                 apr_pool_t *pool, const char **message)
{
    static const char *const what[] = {"the secret", "the secret file ", "the output of ", "the environment variable "};
    const char *fault;
    apr_status_t rv = APR_SUCCESS;

    switch (source->kind) {
    case KIND_FILE:
        rv = secret_file_read(raw, source->name, true, pool, message);
        break;
    case KIND_EXEC:
        rv = command_read(source->name, raw, limit, pool, message);
        break;
    case KIND_ENV:
        rv = environment_read(source->name, raw, pool, message);
        break;
    case KIND_LITERAL:
        raw->len = strnlen(source->name, sizeof(raw->bytes));
        memcpy(raw->bytes, source->name, raw->len);
        break;
    }
    if (rv != APR_SUCCESS)
        return rv;
    if ((fault = raw_fault(raw)) != NULL) {
        const char *shown = source->kind == KIND_LITERAL ? ""
                            : source->kind == KIND_EXEC  ? command_shown(source->name, pool)
                                                         : source->name;
        *message = apr_pstrcat(pool, what[source->kind], text_escape(pool, shown, PATH_SHOWN), " ", fault, NULL);
        return APR_EINVAL;
    }
    return APR_SUCCESS;
}

/* Whether there was memory for it. */
static bool source_take(secret_source_t *source, const secret_file_t *raw)
{
    char *value = OPENSSL_malloc(raw->len);

    if (!value)
        return false;
    memcpy(value, raw->bytes, raw->len);
    OPENSSL_clear_free(source->value, source->len);
    source->value = value;
    source->len = raw->len;
    source->seen = raw->facts;
    return true;
}

static apr_status_t source_read(secret_source_t *source, apr_pool_t *pool, const char **message)
{
    secret_file_t *raw = OPENSSL_zalloc(sizeof(*raw));
    const char *told = "memory ran out";
    apr_status_t rv = raw ? source_fetch(source, raw, command_limit, pool, &told) : APR_ENOMEM;

    if (rv == APR_SUCCESS && !source_take(source, raw))
        rv = APR_ENOMEM;
    if (rv != APR_SUCCESS)
        *message = told;
    OPENSSL_clear_free(raw, sizeof(*raw));
    return rv;
}

static apr_status_t source_clear(void *data)
{
    secret_source_t *source = data;

    heap_root_remove(source);
    OPENSSL_clear_free(source->value, source->len);
    source->value = NULL;
    source->len = 0;
    return APR_SUCCESS;
}

apr_status_t secret_source_make(secret_source_t **source, const char *specification, apr_pool_t *pool,
                                const char **message)
{
    secret_source_t *made = apr_pcalloc(pool, sizeof(*made));
    apr_status_t rv;

    made->kind = specification_split(specification, &made->name);
    if (made->kind == KIND_FILE && made->name[0] != '/') {
        *message = apr_psprintf(pool, "the secret file %s is not given by an absolute path",
                                text_escape(pool, made->name, PATH_SHOWN));
        return APR_EINVAL;
    }
    if ((rv = apr_thread_mutex_create(&made->mutex, APR_THREAD_MUTEX_DEFAULT, pool)) != APR_SUCCESS) {
        *message = "a mutex could not be made";
        return rv;
    }
    if ((rv = source_read(made, pool, message)) != APR_SUCCESS)
        return rv;
    /* A literal stays with its owner, who may blank it out. */
    made->name = made->kind == KIND_LITERAL ? NULL : apr_pstrdup(pool, made->name);
    heap_root_add(made);
    apr_pool_cleanup_register(pool, made, source_clear, apr_pool_cleanup_null);
    *source = made;
    return APR_SUCCESS;
}

static void file_renew(secret_source_t *source)
{
    apr_pool_t *scratch = NULL;
    const char *message = NULL;
    struct stat now;

    if (stat(source->name, &now) != 0 || secret_file_same(&now, &source->seen))
        return;
    if (apr_pool_create(&scratch, NULL) != APR_SUCCESS)
        return;
    /* On failure the old value and its facts stay, so that the next call tries again. */
    (void)source_read(source, scratch, &message);
    apr_pool_destroy(scratch);
}

const secret_t *secret_source_read(secret_source_t *source, apr_pool_t *pool)
{
    const secret_t *secret;

    apr_thread_mutex_lock(source->mutex);
    if (source->kind == KIND_FILE)
        file_renew(source);
    secret = secret_make(pool, source->value, source->len);
    apr_thread_mutex_unlock(source->mutex);
    return secret;
}

/* Whether it is this thread that runs the command again. */
static bool command_claim(secret_source_t *source)
{
    apr_time_t now = clock_now();
    bool mine;

    apr_thread_mutex_lock(source->mutex);
    mine = !source->running && !(source->ran_again && now >= source->ran_at && now - source->ran_at < command_pause);
    if (mine) {
        source->running = true;
        source->ran_again = true;
        source->ran_at = now;
    }
    apr_thread_mutex_unlock(source->mutex);
    return mine;
}

bool secret_source_refused(secret_source_t *source, apr_interval_time_t limit)
{
    secret_file_t *raw = NULL;
    apr_pool_t *scratch = NULL;
    const char *message = NULL;
    bool good = false, changed = false;

    if (source->kind != KIND_EXEC || limit <= 0 || !command_claim(source))
        return false;
    if ((raw = OPENSSL_zalloc(sizeof(*raw))) && apr_pool_create(&scratch, NULL) == APR_SUCCESS)
        good =
            source_fetch(source, raw, limit < command_limit ? limit : command_limit, scratch, &message) == APR_SUCCESS;
    apr_thread_mutex_lock(source->mutex);
    if (good && (raw->len != source->len || memcmp(raw->bytes, source->value, raw->len) != 0))
        changed = source_take(source, raw);
    source->running = false;
    apr_thread_mutex_unlock(source->mutex);
    if (scratch)
        apr_pool_destroy(scratch);
    OPENSSL_clear_free(raw, sizeof(*raw));
    return changed;
}
