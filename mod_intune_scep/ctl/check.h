/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `check` share: one location, and what its steps find out for later ones. */
#ifndef ISCEP_CTL_CHECK_H
#define ISCEP_CTL_CHECK_H

#include "ctl/conf.h"
#include "ctl/dialogue.h"
#include "ctl/steps.h"

#include "base/result.h"
#include "store/journal.h"

enum { CHECK_RED_DAYS = 7, CHECK_YELLOW_DAYS = 30, CHECK_SHOWN = 200 };

typedef struct check_t {
    ctl_t *ctl;
    apr_pool_t *pool;
    ctl_steps_t *steps;
    const settings_t *settings; /**< the location's, and those of the command line over them */
    const char *root;           /**< ServerRoot */
    bool configured;            /**< there is a configuration: what is missing in it is a fault */
    const char *backend;        /**< URL, or NULL */
    bool balanced;              /**< it is a balancer's first member */
    http_settings_t tls;        /**< towards it */
    bool engine_on;             /**< SSLProxyEngine is on */
    const char *user;           /**< User, or NULL */
    const char *group;          /**< Group, or NULL */
    apr_hash_t *modules;        /**< those that have a LoadModule; NULL where it is not known */
    bool macros;                /**< the configuration has macros, which are not followed */
    bool unverified;            /**< the server does not look at the CA's TLS certificate */
    const scep_engine_t *engine;

    X509 *ra; /**< IntuneScepRACertificate, once it could be read */
    EVP_PKEY *ra_key;
    STACK_OF(X509) * chain; /**< IntuneScepCAChain, likewise */
    STACK_OF(X509) * backend_certificates;
    dialogue_t *dialogue;  /**< with the CA, once it could be made */
    unsigned capabilities; /**< SCEP_CAP_… of the CA */
    const scep_ca_t *ca;   /**< what its GetCACert gave */
} check_t;

/* check_settings.c: what is missing, or does not go together. `faults` are those of the configuration, or NULL. */
void check_settings(check_t *check, const apr_array_header_t *faults);

/* check_microsoft.c: from the credential to a validation. */
void check_microsoft(check_t *check);

/* check_ra.c: the RA's files and the CA's chain. */
void check_ra(check_t *check);

/* check_ca.c: GetCACaps, GetCACert, and whether they fit the files. */
void check_ca(check_t *check);

/* check_stranger.c: whether the CA issues to anybody. */
void check_stranger(check_t *check);

/* check_journal.c */
void check_journal(check_t *check);

/* check.c */

const char *check_text(const check_t *check, setting_id_t id);

/** A path as its directive means it: below ServerRoot, or on the command line below the working directory. */
const char *check_path(const check_t *check, setting_id_t id, const char *path);

/** A secret's specification with such a path. */
const char *check_specification(const check_t *check, setting_id_t id);

/**
 * How soon a certificate expires, as a colour; `text` says it: "until 2026-… (12 days)". It must be readable.
 */
ctl_colour_t check_expiry(const check_t *check, X509 *certificate, const char **text);

/** The subject of a certificate, escaped, in quotes. */
const char *check_subject(const check_t *check, X509 *certificate);

#endif
