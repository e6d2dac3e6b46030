/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared cache over httpd's socache providers: shmcb for all processes of this machine, under a mutex; and perhaps
 * one that other machines share, without a mutex, sealed, and asked from a thread of its own.
 */
#include "module.h"

#include "store/aside_provider.h"
#include "store/tiered_cache.h"

#include <ap_socache.h>
#include <apr_strings.h>
#include <util_mutex.h>

APLOG_USE_MODULE(intune_scep);

static const char MUTEX_TYPE[] = "intune-scep-cache";

/*
 * What a location keeps there: two tokens of some kilobytes each, the service's location, and small records. Where that is
 * more than there is room for, each device's tokens push out another location's, and all are fetched anew each time.
 */
enum { SIZE_USUAL = 512 * 1024, SIZE_OF_SITE = 16 * 1024, SIZE_LEAST_OF_SITE = 8 * 1024, SIZE_MOST = 60 * 1024 * 1024 };

/* How long anybody waits for the provider outside: it is in the same network, or of no use. */
static const apr_interval_time_t patience = 500 * 1000;

typedef struct socache_t {
    const ap_socache_provider_t *provider;
    ap_socache_instance_t *instance;
    apr_global_mutex_t *mutex; /* NULL for the one outside */
    server_rec *server;
} socache_t;

/* One instance of each for the process: the mutex is what child_init opens again. */
static socache_t the_socache;
static socache_t the_remote;
static cache_provider_t *the_aside; /* the calls to the_remote; NULL without */

static const ap_socache_provider_t *lookup(const char *name)
{
    return ap_lookup_provider(AP_SOCACHE_PROVIDER_GROUP, name, AP_SOCACHE_PROVIDER_VERSION);
}

/* HOST:PORT, and more of them behind commas. */
static bool are_servers(const char *arguments, apr_pool_t *pool)
{
    char *rest = NULL;
    char *text = apr_pstrdup(pool, arguments ? arguments : "");
    int count = 0;
    for (const char *one = apr_strtok(text, ",", &rest); one; one = apr_strtok(NULL, ",", &rest)) {
        char *host = NULL;
        char *scope = NULL;
        apr_port_t port = 0;
        if (apr_parse_addr_port(&host, &scope, &port, one, pool) || !host || scope || !port) {
            return false;
        }
        count++;
    }
    return count > 0;
}

static const char *check_provider(const char *name, apr_pool_t *pool)
{
    const ap_socache_provider_t *provider = lookup(name);
    if (!provider) {
        return apr_psprintf(pool, "the socache provider \"%s\" is not loaded: add LoadModule socache_%s_module", name,
                            name);
    }
    return NULL;
}

static const char *check_remote(const gateway_t *gateway, apr_pool_t *pool)
{
    if (!are_servers(gateway->remote_arguments, pool)) {
        return apr_psprintf(pool, "%s needs its server as %s:HOST:PORT, several with commas between HOST:PORT",
                            gateway->remote_name, gateway->remote_name);
    }
    const char *wrong = check_provider(gateway->remote_name, pool);
    if (!wrong && lookup(gateway->remote_name)->flags & AP_SOCACHE_FLAG_NOTMPSAFE) {
        wrong = apr_psprintf(pool,
                             "the socache provider \"%s\" of this httpd wants a lock, which is not held over the "
                             "network: use shmcb",
                             gateway->remote_name);
    }
    return wrong;
}

/* It only reads its arguments yet. */
static const char *check_shmcb(const char *arguments, apr_pool_t *pool)
{
    ap_socache_instance_t *instance = NULL;
    const char *wrong = check_provider("shmcb", pool);
    return wrong ? wrong : lookup("shmcb")->create(&instance, arguments, pool, pool);
}

const char *socache_check(gateway_t *gateway, const char *specification, apr_pool_t *pool)
{
    const char *colon = strchr(specification, ':');
    const char *name = colon ? apr_pstrmemdup(pool, specification, (apr_size_t)(colon - specification)) : specification;
    const char *arguments = colon ? colon + 1 : NULL;
    const char *wrong = NULL;
    if (!strcmp(name, "redis") || !strcmp(name, "memcache")) {
        gateway->remote_name = name;
        gateway->remote_arguments = arguments;
        wrong = check_remote(gateway, pool);
    } else if (!strcmp(name, "shmcb")) {
        gateway->socache_arguments = arguments;
    } else {
        return apr_psprintf(pool, "the provider \"%s\" is not one of shmcb, redis:HOST:PORT and memcache:HOST:PORT",
                            name);
    }
    return wrong ? wrong : check_shmcb(gateway->socache_arguments, pool);
}

void socache_register(apr_pool_t *pconf)
{
    /* A process-shared pthread mutex is robust: when its holder is killed, the next one gets it. */
    ap_mutex_register(pconf, MUTEX_TYPE, NULL, APR_LOCK_PROC_PTHREAD, 0);
}

static apr_status_t retrieve(void *baton, const unsigned char *id, unsigned char *value, unsigned int *length,
                             apr_pool_t *pool)
{
    const socache_t *cache = baton;
    return cache->provider->retrieve(cache->instance, cache->server, id, CACHE_ID_BYTES, value, length, pool);
}

static apr_status_t store(void *baton, const unsigned char *id, const unsigned char *value, unsigned int length,
                          apr_time_t expires, apr_pool_t *pool)
{
    const socache_t *cache = baton;
    return cache->provider->store(cache->instance, cache->server, id, CACHE_ID_BYTES, expires,
                                  (unsigned char *)(apr_uintptr_t)value, length, pool);
}

static apr_status_t drop(void *baton, const unsigned char *id, apr_pool_t *pool)
{
    const socache_t *cache = baton;
    return cache->provider->remove(cache->instance, cache->server, id, CACHE_ID_BYTES, pool);
}

static apr_status_t lock(void *baton)
{
    const socache_t *cache = baton;
    return apr_global_mutex_lock(cache->mutex);
}

static void unlock(void *baton)
{
    const socache_t *cache = baton;
    apr_global_mutex_unlock(cache->mutex);
}

static apr_status_t destroy(void *baton)
{
    socache_t *cache = baton;
    if (cache->instance) {
        cache->provider->destroy(cache->instance, cache->server);
        cache->instance = NULL;
    }
    return APR_SUCCESS;
}

static apr_status_t no_lock(void *baton)
{
    (void)baton;
    return APR_SUCCESS;
}

static void no_unlock(void *baton)
{
    (void)baton;
}

static apr_status_t cannot_be_made(const char *what, apr_status_t rv, server_rec *server)
{
    ap_log_error(APLOG_MARK, APLOG_EMERG, rv, server, "ISCEP0506: the shared cache cannot be made: %s", what);
    return rv;
}

/* Logs what is wrong. */
static apr_status_t open_provider(socache_t *cache, const char *name, const char *arguments, server_rec *server,
                                  apr_pool_t *pconf, apr_pool_t *ptemp)
{
    /* Most records are leases and notes; shmcb makes the fewer places in a ring the larger an object is said to be. */
    struct ap_socache_hints hints = {CACHE_ID_BYTES, 300, apr_time_from_sec(3600)};
    memset(cache, 0, sizeof(*cache));
    cache->server = server;
    cache->provider = lookup(name);
    const char *wrong = cache->provider->create(&cache->instance, arguments, ptemp, pconf);
    if (wrong) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, server, "ISCEP0505: IntuneScepSharedCache: %s", wrong);
        return APR_EGENERAL;
    }
    apr_status_t rv = cache->provider->init(cache->instance, "intune-scep", &hints, server, pconf);
    if (rv) {
        return cannot_be_made(name, rv, server);
    }
    apr_pool_cleanup_register(pconf, cache, destroy, apr_pool_cleanup_null);
    return APR_SUCCESS;
}

static apr_status_t start_remote(gateway_t *gateway, server_rec *server, apr_pool_t *pconf, apr_pool_t *ptemp)
{
    cache_provider_t *sealed = NULL;
    apr_status_t rv = open_provider(&the_remote, gateway->remote_name, gateway->remote_arguments, server, pconf, ptemp);
    if (rv) {
        return rv;
    }
    cache_provider_t provider = {retrieve, store, drop, no_lock, no_unlock, &the_remote};
    rv = aside_provider_make(&the_aside, apr_pmemdup(pconf, &provider, sizeof(provider)), patience, pconf);
    if (!rv) {
        rv = sealed_provider_make(&sealed, the_aside, gateway->state_key, pconf);
    }
    if (rv) {
        return cannot_be_made(gateway->remote_name, rv, server);
    }
    gateway->cache = tiered_cache_make(gateway->cache, sealed, pconf);
    if (gateway->state_key_made) {
        log_write(error_log_of_server(server, NULL, ptemp), MSG_STATE_KEY_OWN,
                  "what is kept in %s is encrypted with the key in %s: other machines need the same, else they find "
                  "nothing there; copy the file, or set IntuneScepStateKey on all of them",
                  gateway->remote_name, gateway->state_key_made);
    }
    return APR_SUCCESS;
}

static void warn_of_size(const char *arguments, apr_int64_t sites, server_rec *server)
{
    ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                 "ISCEP0560: IntuneScepSharedCache shmcb:%s is small for %" APR_INT64_T_FMT
                 " locations: their tokens push each other out, and are fetched anew for each device; give it %" APR_INT64_T_FMT
                 " bytes, or leave the size out",
                 arguments, sites, sites * SIZE_OF_SITE);
}

static apr_int64_t size_given(const char *arguments)
{
    const char *size = strrchr(arguments, '(');
    return size ? apr_strtoi64(size + 1, NULL, 10) : SIZE_USUAL;
}

/* The name of the file is for systems that share no memory without one. */
static const char *arguments_of(const gateway_t *gateway, server_rec *server, apr_pool_t *pool)
{
    const char *given = gateway->socache_arguments;
    apr_int64_t sites = gateway->sites->nelts;
    apr_int64_t size = sites * SIZE_OF_SITE < SIZE_MOST ? sites * SIZE_OF_SITE : SIZE_MOST;
    if (!given || !*given) {
        return size > SIZE_USUAL ? apr_psprintf(pool, "intune-scep-cache(%" APR_INT64_T_FMT ")", size) : NULL;
    }
    if (size_given(given) < sites * SIZE_LEAST_OF_SITE) {
        warn_of_size(given, sites, server);
    }
    return given;
}

apr_status_t socache_start(gateway_t *gateway, server_rec *server, apr_pool_t *pconf, apr_pool_t *ptemp)
{
    socache_t *cache = &the_socache;
    the_aside = NULL;
    apr_status_t rv =
        open_provider(cache, "shmcb", arguments_of(gateway, server, pconf), server, pconf, ptemp);
    if (rv) {
        return rv;
    }
    rv = ap_global_mutex_create(&cache->mutex, NULL, MUTEX_TYPE, NULL, server, pconf, 0);
    if (rv) {
        return cannot_be_made("its mutex", rv, server);
    }
    /* posixsem has no owner: nothing gives it back when its holder is killed. */
    if (!strcmp(apr_global_mutex_name(cache->mutex), "posixsem")) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                     "ISCEP0557: the mutex %s is a posixsem, which is lost when a process that holds it is killed: all "
                     "enrolments then stand still until a restart; set Mutex pthread %s, or no Mutex for it at all",
                     MUTEX_TYPE, MUTEX_TYPE);
    }
    cache_provider_t provider = {retrieve, store, drop, lock, unlock, cache};
    gateway->cache = shared_cache_make(apr_pmemdup(pconf, &provider, sizeof(provider)), pconf);
    return gateway->remote_name ? start_remote(gateway, server, pconf, ptemp) : APR_SUCCESS;
}

static apr_status_t stop_remote(void *data)
{
    aside_provider_stop(data);
    return APR_SUCCESS;
}

apr_status_t socache_child(gateway_t *gateway, server_rec *server, apr_pool_t *pchild)
{
    (void)gateway;
    (void)server;
    if (the_aside) {
        apr_pool_pre_cleanup_register(pchild, the_aside, stop_remote);
    }
    return apr_global_mutex_child_init(&the_socache.mutex, apr_global_mutex_lockfile(the_socache.mutex), pchild);
}
