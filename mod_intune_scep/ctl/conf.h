/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's configuration as far as this module has a say in it, read as httpd reads it: Include, Define and ${…},
 * quotes, lines that go on, <IfDefine> and its like, <VirtualHost>, <Location>, and how sections merge. What only the
 * running server knows is guessed: modules are there that have a LoadModule, or that are usually built in; httpd is the
 * newest 2.4; mod_macro is not followed.
 */
#ifndef ISCEP_CTL_CONF_H
#define ISCEP_CTL_CONF_H

#include "gateway/settings.h"

#include <apr_hash.h>
#include <apr_tables.h>

/** What mod_ssl does towards the CA. */
typedef struct conf_tls_t {
    const char *ca_file;     /**< SSLProxyCACertificateFile, or NULL */
    const char *certificate; /**< SSLProxyMachineCertificateFile, or NULL */
    bool verified;           /**< SSLProxyVerify require */
    bool engine_on;          /**< SSLProxyEngine On */
} conf_tls_t;

/** A location, or a virtual host, that is switched on. */
typedef struct conf_location_t {
    const char *name; /**< IntuneScepName, or server name and path */
    const char *path;
    const settings_t *settings; /**< the effective ones */
    conf_tls_t tls;
    const char *backend; /**< IntuneScepBackend; of a balancer the first member; NULL without */
    bool balanced;
} conf_location_t;

typedef struct conf_t {
    const char *root;              /**< ServerRoot */
    const settings_t *server;      /**< of the main server */
    apr_array_header_t *locations; /**< of conf_location_t * */
    const char *user;              /**< User, or NULL */
    const char *group;             /**< Group, or NULL */
    apr_hash_t *modules; /**< those that have a LoadModule; NULL where nothing has: it is a part of a configuration */
    bool macros;         /**< there is a Use of mod_macro's, which is not followed */
    apr_array_header_t *faults; /**< const char *: directives with wrong values, a sentence each with file and line */
} conf_t;

/**
 * Reads a file and what it includes.
 * @param root ServerRoot until the file says otherwise; NULL: the file's directory.
 * @param message on failure one sentence with file and line.
 */
apr_status_t conf_read(conf_t **conf, const char *file, const char *root, apr_pool_t *pool, const char **message);

/* conf_lines.c */

typedef struct conf_reader_t conf_reader_t;

/** What the sections make of a line. Sections give whether they are to be entered. */
typedef struct conf_sink_t {
    bool (*open)(void *baton, const char *name, const char *arguments, const conf_reader_t *reader);
    void (*close)(void *baton, const char *name);
    void (*directive)(void *baton, const char *name, const char *arguments, const conf_reader_t *reader);
    void *baton;
} conf_sink_t;

struct conf_reader_t {
    apr_pool_t *pool;
    const char *root;
    apr_hash_t *defines; /**< names that there are */
    apr_hash_t *values;  /**< of those that have one */
    apr_hash_t *modules;
    apr_array_header_t *frames; /**< of the sections that are open */
    int frames_outside;         /**< how many of these were open before the file, which cannot close them */
    const conf_sink_t *sink;
    int depth; /**< of files that include each other */
    int lines;
    const char *file; /**< where it is */
    int line;
    const char *wrong; /**< the first fault, which ends the reading */
};

/** Feeds the sink with a file and what it includes. NULL, or a sentence. */
const char *conf_lines_read(conf_reader_t *reader, const char *file);

/** The next word of `*line` as ap_getword_conf() finds it, its ${…} resolved; "" at the end. */
const char *conf_word(const conf_reader_t *reader, const char **line);

#endif
