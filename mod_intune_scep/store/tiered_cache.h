/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/cache.h in two tiers. The first is the machine's: quick, with leases. The second is outside, shared by several
 * machines, and is looked at only by get_shared(), put_shared() and drop(). Whatever is wrong there never becomes the
 * caller's trouble.
 */
#ifndef ISCEP_STORE_TIERED_CACHE_H
#define ISCEP_STORE_TIERED_CACHE_H

#include "store/sealed_provider.h"

/**
 * Makes a cache over `local`, one of shared_cache_make(), and a provider of sealed_provider_make(). After an error the
 * latter is left alone for ten seconds, by all processes that share `local`; the log hears of it once a minute.
 */
cache_t *tiered_cache_make(cache_t *local, const cache_provider_t *sealed, apr_pool_t *pool);

#endif
