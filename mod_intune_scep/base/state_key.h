/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The key of what leaves the server's memory: cache values outside the machine. It is a text of at least 32 bytes,
 * given by the operator or made in the state directory. It never encrypts anything itself: each purpose has a key
 * derived from it.
 */
#ifndef ISCEP_BASE_STATE_KEY_H
#define ISCEP_BASE_STATE_KEY_H

#include "secret.h"

#include <sys/types.h>

enum { STATE_KEY_MIN = 32, STATE_KEY_DERIVED = 32 };

/** The name of the file in the state directory. */
#define STATE_KEY_FILE "state.key"

typedef struct state_key_t state_key_t;

/**
 * The key that a specification gives (secret.h). It is read once: another key needs a restart.
 * @param message on failure one sentence without the directive.
 */
apr_status_t state_key_from_source(state_key_t **key, const char *specification, apr_pool_t *pool,
                                   const char **message);

/**
 * The key in `directory`/state.key: 64 hexadecimal digits. Where there is no such file, one is made: complete and on
 * the disk before it has its name, mode 0600. Of several processes that make it at once one wins, and all get the
 * winner's.
 * @param user,group the server's, to whom root gives a new file, and who may own it.
 */
apr_status_t state_key_from_directory(state_key_t **key, const char *directory, uid_t user, gid_t group,
                                      apr_pool_t *pool, const char **message);

/**
 * HKDF-SHA256 (RFC 5869) without salt; `purpose` is its info. The caller cleanses the result.
 */
apr_status_t state_key_derive(const state_key_t *key, const char *purpose, unsigned char derived[STATE_KEY_DERIVED]);

#endif
