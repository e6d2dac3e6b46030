/* SPDX-License-Identifier: Apache-2.0 */
/*
 * httpd's configuration as the tool reads it: the main file and up to three that it may include (one.conf, two.conf and
 * sites/three.conf), parts that end with 0xff.
 */
#include "fuzz.h"

#include "ctl/conf.h"

#include <apr_file_info.h>
#include <apr_file_io.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>

/* A reader that gave up after LINES_MOST lines would keep the fuzzer busy for seconds: it begins not far from there. */
enum { FILES = 4, LINES_MOST = 200000, LINES_LEFT = 2000, REPETITIONS_MAX = 5, SECTIONS_MAX = 64 };

#define BLANKS " \t\n\v\f\r"

static const char *const NAMES[FILES] = {"httpd.conf", "one.conf", "two.conf", "sites/three.conf"};

/* The reader's calls for files: an input names whatever it likes, and there is nothing but the folder. */

static bool is_inside(const char *path)
{
    size_t length = strlen(fuzz_folder());
    return !strncmp(path, fuzz_folder(), length) && (!path[length] || path[length] == '/') && !strstr(path, "/../");
}

static void *libapr(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    fuzz_check(found);
    return found;
}

apr_status_t apr_file_open(apr_file_t **file, const char *path, apr_int32_t flag, apr_fileperms_t perm,
                           apr_pool_t *pool)
{
    static apr_status_t (*opens)(apr_file_t **, const char *, apr_int32_t, apr_fileperms_t, apr_pool_t *);
    if (!opens) {
        void *found = libapr("apr_file_open");
        memcpy(&opens, &found, sizeof(found));
    }
    return is_inside(path) ? opens(file, path, flag, perm, pool) : APR_ENOENT;
}

apr_status_t apr_dir_open(apr_dir_t **dir, const char *path, apr_pool_t *pool)
{
    static apr_status_t (*opens)(apr_dir_t **, const char *, apr_pool_t *);
    if (!opens) {
        void *found = libapr("apr_dir_open");
        memcpy(&opens, &found, sizeof(found));
    }
    return is_inside(path) ? opens(dir, path, pool) : APR_ENOENT;
}

apr_status_t apr_stat(apr_finfo_t *facts, const char *path, apr_int32_t wanted, apr_pool_t *pool)
{
    static apr_status_t (*stats)(apr_finfo_t *, const char *, apr_int32_t, apr_pool_t *);
    if (!stats) {
        void *found = libapr("apr_stat");
        memcpy(&stats, &found, sizeof(found));
    }
    return is_inside(path) ? stats(facts, path, wanted, pool) : APR_ENOENT;
}

/* The second reader. */

typedef struct watch_t {
    apr_array_header_t *lines; /* of the main file: const char *, by the number of the last line that each goes on to */
    const char *main;
    const char *entered[SECTIONS_MAX];
    int sections;
    bool is_costly; /* an expression that the C library makes much of */
} watch_t;

static const char *trimmed(const char *line, apr_pool_t *pool)
{
    const char *from = line + strspn(line, BLANKS);
    size_t length = strlen(from);
    while (length && strchr(BLANKS, from[length - 1])) {
        length--;
    }
    return apr_pstrmemdup(pool, from, length);
}

/* Split first, joined then; the reader does both at once. */
static apr_array_header_t *lines_make(const char *text, apr_pool_t *pool)
{
    apr_array_header_t *lines = apr_array_make(pool, 16, sizeof(const char *));
    const char *begun = "";
    APR_ARRAY_PUSH(lines, const char *) = NULL;
    while (*text) {
        size_t length = strcspn(text, "\n");
        bool is_last = !text[length];
        const char *line = apr_pstrmemdup(pool, text, length);
        size_t bare = length && line[length - 1] == '\r' ? length - 1 : length;
        text += length + !is_last;
        if (!is_last && bare && line[bare - 1] == '\\') {
            begun = apr_pstrcat(pool, begun, apr_pstrmemdup(pool, line, bare - 1), NULL);
            APR_ARRAY_PUSH(lines, const char *) = NULL;
            /* a last line may be one that goes on in nothing */
            if (!*text) {
                APR_ARRAY_PUSH(lines, const char *) = trimmed(begun, pool);
            }
            continue;
        }
        APR_ARRAY_PUSH(lines, const char *) = trimmed(apr_pstrcat(pool, begun, line, NULL), pool);
        begun = "";
    }
    return lines;
}

static const char *value_of(const conf_reader_t *reader, const char *name)
{
    const char *value = apr_hash_get(reader->values, name, APR_HASH_KEY_STRING);
    return value ? value : getenv(name);
}

/* Character by character into one buffer, after having counted. */
static const char *resolve(const conf_reader_t *reader, const char *word)
{
    char *made = NULL;
    for (int round = 0; round < 2; round++) {
        size_t length = 0;
        for (const char *c = word; *c; c++) {
            const char *end = c[0] == '$' && c[1] == '{' ? strchr(c, '}') : NULL;
            const char *value =
                end ? value_of(reader, apr_pstrmemdup(reader->pool, c + 2, (apr_size_t)(end - c - 2))) : NULL;
            const char *put = value ? value : c;
            size_t some = value ? strlen(value) : end ? (size_t)(end + 1 - c) : 1;
            if (made) {
                memcpy(made + length, put, some);
            }
            length += some;
            c = end ? end : c;
        }
        made = made ? made : apr_pcalloc(reader->pool, length + 1);
    }
    return made;
}

/* As in httpd's server/util.c: where the word ends first, what it is then. */
static const char *word_read(const conf_reader_t *reader, const char **line)
{
    const char *from = *line + strspn(*line, BLANKS);
    char quote = *from == '"' || *from == '\'' ? *from++ : '\0';
    const char *end = from;
    if (quote) {
        while (*end && *end != quote) {
            end += *end == '\\' && (end[1] == quote || end[1] == '\\') ? 2 : 1;
        }
    } else {
        end += strcspn(end, BLANKS);
    }
    char *word = apr_pcalloc(reader->pool, (apr_size_t)(end - from) + 1);
    char *to = word;
    for (const char *c = from; c < end; c++) {
        c += *c == '\\' && c + 1 < end && (c[1] == '\\' || (quote && c[1] == quote)) ? 1 : 0;
        *to++ = *c;
    }
    end += quote && *end ? 1 : 0;
    *line = end + strspn(end, BLANKS);
    return resolve(reader, word);
}

static void words_check(watch_t *watch, const char *arguments, const conf_reader_t *reader)
{
    const char *again = arguments;
    while (*arguments) {
        const char *word = conf_word(reader, &arguments);
        int repetitions = 0;
        fuzz_check(!strcmp(word, word_read(reader, &again)) && arguments == again);
        for (const char *c = word; *c; c++) {
            repetitions += strchr("*+?{", *c) ? 1 : 0;
        }
        watch->is_costly = watch->is_costly || repetitions > REPETITIONS_MAX;
    }
}

static void place_check(const conf_reader_t *reader)
{
    fuzz_check(is_inside(reader->file) && reader->line > 0 && reader->depth > 0 && !reader->wrong);
}

static bool opened(void *baton, const char *name, const char *arguments, const conf_reader_t *reader)
{
    watch_t *watch = baton;
    place_check(reader);
    fuzz_check(!strpbrk(name, " \t>\n"));
    words_check(watch, arguments, reader);
    /* every other kind of section is entered */
    if (strlen(name) % 2 || watch->sections == SECTIONS_MAX) {
        return false;
    }
    watch->entered[watch->sections++] = name;
    return true;
}

static void closed(void *baton, const char *name)
{
    watch_t *watch = baton;
    fuzz_check(watch->sections > 0 && !strcasecmp(watch->entered[--watch->sections], name));
}

static void told(void *baton, const char *name, const char *arguments, const conf_reader_t *reader)
{
    static const char *const OWN[] = {"Include", "IncludeOptional", "Define", "UnDefine", "ServerRoot", "LoadModule"};
    watch_t *watch = baton;
    place_check(reader);
    for (size_t i = 0; i < sizeof(OWN) / sizeof(OWN[0]); i++) {
        fuzz_check(strcasecmp(name, OWN[i]));
    }
    words_check(watch, arguments, reader);
    if (!strcmp(reader->file, watch->main)) {
        fuzz_check(reader->line < watch->lines->nelts);
        const char *line = APR_ARRAY_IDX(watch->lines, reader->line, const char *);
        fuzz_check(line && *line != '#' && !strcmp(name, word_read(reader, &line)));
        fuzz_check(!strncmp(line, arguments, strlen(arguments)));
    }
}

static void lines_try(fuzz_t *fuzz, watch_t *watch)
{
    conf_sink_t sink = {opened, closed, told, watch};
    conf_reader_t reader = {.pool = fuzz->pool, .root = fuzz_folder(), .sink = &sink, .lines = LINES_MOST - LINES_LEFT};
    const char *wrong = conf_lines_read(&reader, watch->main);
    fuzz_check(wrong == reader.wrong && *reader.root == '/');
    if (!wrong) {
        fuzz_check(!reader.depth && !reader.frames->nelts && !watch->sections && reader.file == watch->main);
        return;
    }
    fuzz_check(!strncmp(wrong, fuzz_folder(), strlen(fuzz_folder())));
    for (const char *c = wrong; *c; c++) {
        fuzz_check(*c >= ' ' && *c <= '~');
    }
    watch->is_costly = watch->is_costly || reader.lines > LINES_MOST;
}

/* To the locations, which must come of directives that could be read. */
static void whole_try(fuzz_t *fuzz, const watch_t *watch)
{
    conf_t *conf = NULL;
    const char *message = NULL;
    apr_status_t rv = conf_read(&conf, watch->main, fuzz_folder(), fuzz->pool, &message);
    fuzz_check((rv == APR_SUCCESS) == !message && (rv == APR_SUCCESS) == !!conf);
    for (int i = 0; conf && i < conf->locations->nelts; i++) {
        const conf_location_t *location = APR_ARRAY_IDX(conf->locations, i, const conf_location_t *);
        fuzz_check(location->name && location->path && setting_flag(location->settings, SETTING_ENABLED));
        fuzz_check(location->balanced || location->backend == setting_text(location->settings, SETTING_BACKEND));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool has_folder;
    fuzz_t *fuzz = fuzz_begin(data, size);
    watch_t watch = {.sections = 0};

    if (!has_folder) {
        fuzz_check(!mkdir(apr_pstrcat(fuzz->pool, fuzz_folder(), "/sites", NULL), 0700));
        has_folder = true;
    }
    for (int i = 0; i < FILES; i++) {
        bytes_t part = fuzz_part(fuzz);
        const char *path = fuzz_file(fuzz, NAMES[i], part);
        if (!i) {
            watch.main = path;
            watch.lines = lines_make(fuzz_text_of(fuzz, part), fuzz->pool);
        }
    }
    lines_try(fuzz, &watch);
    if (!watch.is_costly) {
        whole_try(fuzz, &watch);
    }
    return fuzz_end(fuzz);
}
