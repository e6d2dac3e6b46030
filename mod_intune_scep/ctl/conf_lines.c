/* SPDX-License-Identifier: Apache-2.0 */
/* From files to directives. */
#include "ctl/conf.h"

#include "base/text.h"

#include <apr_cstr.h>
#include <apr_file_info.h>
#include <apr_file_io.h>
#include <apr_fnmatch.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <stdlib.h>

enum { DEPTH_MOST = 20, FILE_MAX = 4 * 1024 * 1024, LINES_MOST = 200000, VALUE_MOST = 8192, SHOWN = 200 };

/* What became of a section that is open. */
typedef struct frame_t {
    const char *name;
    enum { FRAME_PASSED, FRAME_ENTERED, FRAME_SKIPPED } kind;
} frame_t;

static void complain(conf_reader_t *reader, const char *what)
{
    if (!reader->wrong && !reader->line) {
        /* the file itself */
        reader->wrong = what;
    } else if (!reader->wrong) {
        reader->wrong = apr_psprintf(reader->pool, "%s line %d: %s", text_escape(reader->pool, reader->file, SHOWN),
                                     reader->line, what);
    }
}

/* Words. */

static const char *variable(const conf_reader_t *reader, const char *name)
{
    const char *value = apr_hash_get(reader->values, name, APR_HASH_KEY_STRING);
    return value ? value : getenv(name);
}

/* One that is not defined stays as it is, as in httpd. */
static const char *resolved(const conf_reader_t *reader, const char *word)
{
    if (!strstr(word, "${")) {
        return word;
    }
    apr_array_header_t *pieces = apr_array_make(reader->pool, 8, sizeof(const char *));
    for (;;) {
        const char *start = strstr(word, "${");
        const char *end = start ? strchr(start, '}') : NULL;
        if (!end) {
            APR_ARRAY_PUSH(pieces, const char *) = word;
            return apr_array_pstrcat(reader->pool, pieces, 0);
        }
        const char *value = variable(reader, apr_pstrmemdup(reader->pool, start + 2, (apr_size_t)(end - start - 2)));
        const char *itself = apr_pstrmemdup(reader->pool, start, (apr_size_t)(end + 1 - start));
        APR_ARRAY_PUSH(pieces, const char *) = apr_pstrmemdup(reader->pool, word, (apr_size_t)(start - word));
        APR_ARRAY_PUSH(pieces, const char *) = value ? value : itself;
        word = end + 1;
    }
}

const char *conf_word(const conf_reader_t *reader, const char **line)
{
    const char *at = *line;
    char *word = NULL;
    char *out = NULL;
    while (apr_isspace(*at)) {
        at++;
    }
    char quote = *at == '"' || *at == '\'' ? *at++ : '\0';
    out = word = apr_palloc(reader->pool, strlen(at) + 1);
    while (*at && (quote ? *at != quote : !apr_isspace(*at))) {
        if (*at == '\\' && (at[1] == '\\' || (quote && at[1] == quote))) {
            at++;
        }
        *out++ = *at++;
    }
    *out = '\0';
    at += quote && *at ? 1 : 0;
    while (apr_isspace(*at)) {
        at++;
    }
    *line = at;
    return resolved(reader, word);
}

/* Conditions. */

/* `mod_ssl.c` and `ssl_module` are one. */
static const char *module_name(const conf_reader_t *reader, const char *name)
{
    apr_size_t len = strlen(name);
    if (len > 2 && !strcmp(name + len - 2, ".c")) {
        name += strncmp(name, "mod_", 4) ? 0 : 4;
        return apr_pstrcat(reader->pool, apr_pstrmemdup(reader->pool, name, strlen(name) - 2), "_module", NULL);
    }
    return name;
}

static bool has_module(const conf_reader_t *reader, const char *given)
{
    static const char *const BUILT_IN[] = {"core_module",  "so_module",      "http_module",     "log_config_module",
                                           "unixd_module", "version_module", "watchdog_module", "logio_module"};
    const char *name = module_name(reader, given);
    for (size_t i = 0; i < sizeof(BUILT_IN) / sizeof(BUILT_IN[0]); i++) {
        if (!strcmp(BUILT_IN[i], name)) {
            return true;
        }
    }
    return apr_hash_get(reader->modules, name, APR_HASH_KEY_STRING) ||
           apr_hash_get(reader->modules, apr_pstrcat(reader->pool, "mpm_", name, NULL), APR_HASH_KEY_STRING);
}

/* Which directives and sections httpd has is not known, but what is in a configuration is meant to be. */
static bool has_directive(const conf_reader_t *reader, const char *name)
{
    return apr_cstr_casecmpn(name, "IntuneScep", 10) || has_module(reader, "intune_scep_module");
}

static bool file_is_there(const conf_reader_t *reader, const char *path)
{
    apr_finfo_t facts;
    const char *full = setting_path(reader->root, path, reader->pool);
    return full && !apr_stat(&facts, full, APR_FINFO_TYPE, reader->pool);
}

/*
 * httpd is 2.4, and newer than any release of it that is named: also than "2.4", to which mod_version adds ".0". A version
 * alone is to be that of httpd. Expressions hold.
 */
static bool is_version(const conf_reader_t *reader, const char *operator, const char *arguments)
{
    static const char *const OPERATORS[] = {"<", "<=", "=", "==", ">=", ">"};
    enum { EQUAL = 2, NEWER = 4, MAJOR = 2, MINOR = 4, PARTS = 3 };
    bool alone = apr_isdigit(*operator);
    const char *version = alone ? operator : conf_word(reader, &arguments);
    long parts[] = {0, 0, 0};
    int given = 0;
    int which = 0;
    while (given < PARTS && apr_isdigit(*version)) {
        char *end = NULL;
        parts[given++] = strtol(version, &end, 10);
        version = *end == '.' ? end + 1 : "";
    }
    while (!alone && which < (int)(sizeof(OPERATORS) / sizeof(OPERATORS[0])) && strcmp(OPERATORS[which], operator)) {
        which++;
    }
    if (alone || given < 1 || which == (int)(sizeof(OPERATORS) / sizeof(OPERATORS[0]))) {
        return !alone;
    }
    bool is_newer = parts[0] != MAJOR ? parts[0] < MAJOR : parts[1] <= MINOR;
    return is_newer ? which >= NEWER : which < EQUAL;
}

/* Whether the section is a condition; then `holds` is set. */
static bool is_condition(const conf_reader_t *reader, const char *name, const char *arguments, bool *holds)
{
    const char *word = conf_word(reader, &arguments);
    bool negated = *word == '!';
    word += negated;
    if (!apr_cstr_casecmp(name, "IfDefine")) {
        *holds = apr_hash_get(reader->defines, word, APR_HASH_KEY_STRING) != NULL;
    } else if (!apr_cstr_casecmp(name, "IfModule")) {
        *holds = has_module(reader, word);
    } else if (!apr_cstr_casecmp(name, "IfFile")) {
        *holds = file_is_there(reader, word);
    } else if (!apr_cstr_casecmp(name, "IfDirective")) {
        *holds = has_directive(reader, word);
    } else if (!apr_cstr_casecmp(name, "IfSection")) {
        *holds = true;
    } else if (!apr_cstr_casecmp(name, "IfVersion")) {
        *holds = is_version(reader, word, arguments);
    } else {
        return false;
    }
    *holds = *holds != negated;
    return true;
}

/* Sections. */

static bool is_skipping(const conf_reader_t *reader)
{
    int count = reader->frames->nelts;
    return count && APR_ARRAY_IDX(reader->frames, count - 1, frame_t).kind == FRAME_SKIPPED;
}

static void section_open(conf_reader_t *reader, const char *line)
{
    apr_size_t len = strcspn(line, " \t>");
    const char *name = apr_pstrmemdup(reader->pool, line, len);
    const char *end = strrchr(line, '>');
    bool holds = false;
    if (!end || end < line + len) {
        complain(reader, apr_psprintf(reader->pool, "<%s has no >", text_escape(reader->pool, name, SHOWN)));
        return;
    }
    const char *arguments = apr_pstrmemdup(reader->pool, line + len, (apr_size_t)(end - line) - len);
    frame_t *frame = NULL;
    bool skipping = is_skipping(reader);
    frame = apr_array_push(reader->frames);
    frame->name = name;
    if (skipping) {
        frame->kind = FRAME_SKIPPED;
    } else if (is_condition(reader, name, arguments, &holds)) {
        frame->kind = holds ? FRAME_PASSED : FRAME_SKIPPED;
    } else {
        frame->kind = reader->sink->open(reader->sink->baton, name, arguments, reader) ? FRAME_ENTERED : FRAME_SKIPPED;
    }
}

static void section_close(conf_reader_t *reader, const char *line)
{
    const char *name = apr_pstrmemdup(reader->pool, line, strcspn(line, " \t>"));
    if (line[strlen(name)] != '>') {
        complain(reader, apr_psprintf(reader->pool, "</%s has no >", text_escape(reader->pool, name, SHOWN)));
        return;
    }
    const frame_t *frame = reader->frames->nelts > reader->frames_outside ? apr_array_pop(reader->frames) : NULL;
    if (!frame || apr_cstr_casecmp(frame->name, name)) {
        complain(reader, apr_psprintf(reader->pool, "</%s> closes no section", text_escape(reader->pool, name, SHOWN)));
    } else if (frame->kind == FRAME_ENTERED) {
        reader->sink->close(reader->sink->baton, name);
    }
}

/* Files. */

static void file_read(conf_reader_t *reader, const char *path);

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The entries of a directory that fit, sorted; a NULL pattern fits all. */
static apr_array_header_t *entries(conf_reader_t *reader, const char *directory, const char *pattern)
{
    apr_array_header_t *names = apr_array_make(reader->pool, 16, sizeof(const char *));
    apr_dir_t *dir = NULL;
    apr_finfo_t facts;
    if (apr_dir_open(&dir, directory, reader->pool)) {
        return names;
    }
    while (!apr_dir_read(&facts, APR_FINFO_NAME, dir)) {
        bool own = !strcmp(facts.name, ".") || !strcmp(facts.name, "..");
        if (!own && (!pattern || !apr_fnmatch(pattern, facts.name, APR_FNM_PERIOD))) {
            APR_ARRAY_PUSH(names, const char *) = apr_pstrcat(reader->pool, directory, "/", facts.name, NULL);
        }
    }
    apr_dir_close(dir);
    if (names->nelts) {
        qsort(names->elts, (size_t)names->nelts, sizeof(const char *), by_name);
    }
    return names;
}

static bool is_directory(const conf_reader_t *reader, const char *path)
{
    apr_finfo_t facts;
    return !apr_stat(&facts, path, APR_FINFO_TYPE, reader->pool) && facts.filetype == APR_DIR;
}

/* A directory is all that is in it, as in httpd. */
static void tree_read(conf_reader_t *reader, const char *path)
{
    if (!is_directory(reader, path)) {
        file_read(reader, path);
        return;
    }
    if (++reader->depth > DEPTH_MOST) {
        complain(reader, "directories are nested too deep");
    }
    const apr_array_header_t *names = entries(reader, path, NULL);
    for (int i = 0; i < names->nelts && !reader->wrong; i++) {
        tree_read(reader, APR_ARRAY_IDX(names, i, const char *));
    }
    reader->depth--;
}

/* `rest` is a path below `directory`, its components perhaps patterns. Gives how many there were. */
static int matches_read(conf_reader_t *reader, const char *directory, const char *rest)
{
    int count = 0;
    apr_size_t len = strcspn(rest, "/");
    const char *component = apr_pstrmemdup(reader->pool, rest, len);
    const char *behind = rest + len + strspn(rest + len, "/");
    if (!apr_fnmatch_test(component)) {
        const char *path = apr_pstrcat(reader->pool, directory, "/", component, NULL);
        if (*behind) {
            return matches_read(reader, path, behind);
        }
        if (!file_is_there(reader, path)) {
            return 0;
        }
        tree_read(reader, path);
        return 1;
    }
    const apr_array_header_t *names = entries(reader, *directory ? directory : "/", component);
    for (int i = 0; i < names->nelts && !reader->wrong; i++) {
        const char *path = APR_ARRAY_IDX(names, i, const char *);
        if (!*behind) {
            tree_read(reader, path);
            count++;
        } else if (is_directory(reader, path)) {
            count += matches_read(reader, path, behind);
        }
    }
    return count;
}

static void include(conf_reader_t *reader, const char *arguments, bool optional)
{
    const char *given = conf_word(reader, &arguments);
    const char *path = *given ? setting_path(reader->root, given, reader->pool) : NULL;
    if (*arguments) {
        complain(reader, "Include takes one argument: put quotes around it where it has blanks");
    } else if (reader->depth >= DEPTH_MOST) {
        complain(reader, "files include each other too deep");
    } else if (!path || (!matches_read(reader, "", path + strspn(path, "/")) && !optional && !reader->wrong)) {
        complain(reader, apr_psprintf(reader->pool, "there is nothing to include at %s",
                                      text_escape(reader->pool, path ? path : given, SHOWN)));
    }
}

/* Directives. */

static void define(conf_reader_t *reader, const char *arguments)
{
    const char *name = conf_word(reader, &arguments);
    bool has_value = *arguments != '\0';
    const char *value = conf_word(reader, &arguments);
    if (!*name || *arguments || strchr(name, ':')) {
        complain(reader, "Define takes a name without a colon, and perhaps a value");
        return;
    }
    /* made of others, each of which may be made of others: so it doubles with each line */
    if (strlen(value) > VALUE_MOST) {
        name = text_escape(reader->pool, name, SHOWN);
        complain(reader, apr_psprintf(reader->pool, "the value of %s is too long", name));
        return;
    }
    apr_hash_set(reader->defines, name, APR_HASH_KEY_STRING, "");
    if (has_value) {
        apr_hash_set(reader->values, name, APR_HASH_KEY_STRING, value);
    }
}

static void undefine(conf_reader_t *reader, const char *arguments)
{
    const char *name = conf_word(reader, &arguments);
    apr_hash_set(reader->defines, name, APR_HASH_KEY_STRING, NULL);
    apr_hash_set(reader->values, name, APR_HASH_KEY_STRING, NULL);
}

static void line_read(conf_reader_t *reader, const char *line)
{
    if (*line == '<') {
        if (line[1] == '/') {
            section_close(reader, line + 2);
        } else {
            section_open(reader, line + 1);
        }
        return;
    }
    if (is_skipping(reader)) {
        return;
    }
    const char *arguments = line;
    const char *name = conf_word(reader, &arguments);
    if (!apr_cstr_casecmp(name, "Include") || !apr_cstr_casecmp(name, "IncludeOptional")) {
        include(reader, arguments, strlen(name) > 7);
    } else if (!apr_cstr_casecmp(name, "Define")) {
        define(reader, arguments);
    } else if (!apr_cstr_casecmp(name, "UnDefine")) {
        undefine(reader, arguments);
    } else if (!apr_cstr_casecmp(name, "ServerRoot")) {
        const char *root = conf_word(reader, &arguments);
        reader->root = *root == '/' ? root : reader->root;
    } else if (!apr_cstr_casecmp(name, "LoadModule")) {
        apr_hash_set(reader->modules, conf_word(reader, &arguments), APR_HASH_KEY_STRING, "");
    } else {
        reader->sink->directive(reader->sink->baton, name, arguments, reader);
    }
}

/* A line of the file, with those that it goes on in; moves on behind it. NULL at the end. */
static const char *line_next(conf_reader_t *reader, char **at)
{
    char *from = *at;
    char *out = from;
    if (!*from) {
        return NULL;
    }
    for (reader->line++; **at && **at != '\n'; (*at)++) {
        bool breaks = **at == '\\' && ((*at)[1] == '\n' || ((*at)[1] == '\r' && (*at)[2] == '\n'));
        if (breaks) {
            *at += (*at)[1] == '\r' ? 2 : 1;
            reader->line++;
            continue;
        }
        *out++ = **at;
    }
    *at += **at ? 1 : 0;
    while (out > from && apr_isspace(out[-1])) {
        out--;
    }
    *out = '\0';
    while (apr_isspace(*from)) {
        from++;
    }
    return from;
}

static char *bytes_read(conf_reader_t *reader, const char *path)
{
    apr_file_t *file = NULL;
    apr_size_t len = 0;
    apr_finfo_t facts;
    apr_status_t rv = apr_file_open(&file, path, APR_FOPEN_READ | APR_FOPEN_BINARY, APR_FPROT_OS_DEFAULT, reader->pool);
    if (rv) {
        complain(reader, apr_psprintf(reader->pool, "%s cannot be read: %pm", text_escape(reader->pool, path, SHOWN),
                                      (void *)&rv));
        return NULL;
    }
    rv = apr_file_info_get(&facts, APR_FINFO_SIZE | APR_FINFO_TYPE, file);
    if (rv || facts.filetype != APR_REG || facts.size > FILE_MAX) {
        apr_file_close(file);
        complain(reader,
                 apr_psprintf(reader->pool, "%s is not a file of usual size", text_escape(reader->pool, path, SHOWN)));
        return NULL;
    }
    char *bytes = apr_pcalloc(reader->pool, (apr_size_t)facts.size + 1);
    rv = apr_file_read_full(file, bytes, (apr_size_t)facts.size, &len);
    apr_file_close(file);
    if (memchr(bytes, '\0', len) || (rv && rv != APR_EOF)) {
        complain(reader, apr_psprintf(reader->pool, "%s is no text", text_escape(reader->pool, path, SHOWN)));
        return NULL;
    }
    return bytes;
}

static void file_read(conf_reader_t *reader, const char *path)
{
    const char *outer = reader->file;
    int outer_line = reader->line;
    int frames_outside = reader->frames_outside;
    const char *line = NULL;
    char *at = bytes_read(reader, path);
    if (!at) {
        return;
    }
    reader->depth++;
    reader->file = path;
    reader->line = 0;
    reader->frames_outside = reader->frames->nelts;
    if (!strncmp(at, "\xEF\xBB\xBF", 3)) {
        reader->line = 1;
        complain(reader, "the file begins with a byte order mark, which httpd takes for a part of the first word");
    }
    while (!reader->wrong && (line = line_next(reader, &at))) {
        if (++reader->lines > LINES_MOST) {
            complain(reader, "there are too many lines: a file may include itself");
        } else if (*line && *line != '#') {
            line_read(reader, line);
        }
    }
    if (reader->frames->nelts > reader->frames_outside) {
        complain(
            reader,
            apr_psprintf(reader->pool, "<%s> is not closed",
                         text_escape(reader->pool,
                                     APR_ARRAY_IDX(reader->frames, reader->frames->nelts - 1, frame_t).name, SHOWN)));
    }
    reader->depth--;
    reader->file = outer;
    reader->line = outer_line;
    reader->frames_outside = frames_outside;
}

const char *conf_lines_read(conf_reader_t *reader, const char *file)
{
    reader->frames = apr_array_make(reader->pool, 8, sizeof(frame_t));
    reader->defines = apr_hash_make(reader->pool);
    reader->values = apr_hash_make(reader->pool);
    reader->modules = apr_hash_make(reader->pool);
    reader->file = file;
    file_read(reader, file);
    return reader->wrong;
}
