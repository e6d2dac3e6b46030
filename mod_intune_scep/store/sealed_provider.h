/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A provider whose store others can read and write, made fit for secrets: values are encrypted and authenticated
 * (AES-256-GCM), and ids are keyed, so that an outsider neither learns what is there nor moves a value from one key to
 * another. He can remove values and put old ones back: the records inside know when they expire.
 */
#ifndef ISCEP_STORE_SEALED_PROVIDER_H
#define ISCEP_STORE_SEALED_PROVIDER_H

#include "base/seal.h"
#include "store/shared_cache.h"

/** What retrieve() gives for a value that does not authenticate. */
#define SEALED_BROKEN SEAL_BROKEN

/**
 * Makes a provider over `outside`, which must live as long. Its retrieve() gives SEALED_BROKEN instead of what was
 * tampered with.
 */
apr_status_t sealed_provider_make(cache_provider_t **provider, const cache_provider_t *outside, const state_key_t *key,
                                  apr_pool_t *pool);

/**
 * Whether others use the same store with another key. With keyed ids nobody finds their values, so there is one mark at
 * an id that all know; it is written where it is missing. APR_SUCCESS: not known of; SEALED_BROKEN: yes; else what the
 * store said.
 */
apr_status_t sealed_provider_check(const cache_provider_t *sealed, apr_pool_t *pool);

#endif
