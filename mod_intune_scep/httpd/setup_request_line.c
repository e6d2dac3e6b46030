/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A GET PKIOperation with an Intune challenge is a request line of over 10 kB. httpd reads it before it knows the host,
 * with the LimitRequestLine of the first virtual host of the address.
 */
#include "setup.h"

#include <apr_network_io.h>
#include <apr_strings.h>

APLOG_USE_MODULE(intune_scep);

enum { LINE_NEEDED = 16384 };

static bool same_address(const server_addr_rec *a, const server_addr_rec *b)
{
    return a->host_port == b->host_port && apr_sockaddr_equal(a->host_addr, b->host_addr);
}

static bool listens_at(const server_rec *server, const server_addr_rec *address)
{
    for (const server_addr_rec *own = server->addrs; own; own = own->next) {
        if (same_address(own, address)) {
            return true;
        }
    }
    return false;
}

/* The first virtual host in the configuration with this address: httpd's list has them in the reverse order. */
static const server_rec *first_at(const server_rec *main_server, const server_rec *server,
                                  const server_addr_rec *address)
{
    const server_rec *first = server;
    for (const server_rec *host = main_server->next; host; host = host->next) {
        if (listens_at(host, address)) {
            first = host;
        }
    }
    return first;
}

static void warn(const server_rec *server, const server_rec *first, apr_pool_t *pool)
{
    const char *where = first->defn_name
                            ? apr_psprintf(pool, " of the virtual host at %s line %u, the first of its address,",
                                           first->defn_name, first->defn_line_number)
                            : "";
    ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                 "ISCEP0522: LimitRequestLine%s is %d: devices that send by GET are refused, since a challenge makes "
                 "their request lines "
                 "longer than 10000 bytes; set LimitRequestLine 65534 outside of all virtual hosts",
                 where, first->limit_req_line);
}

void setup_request_line_check(server_rec *main_server, const server_rec *server, apr_pool_t *pool)
{
    if (!server->is_virtual) {
        if (server->limit_req_line < LINE_NEEDED) {
            warn(server, server, pool);
        }
        return;
    }
    for (const server_addr_rec *address = server->addrs; address; address = address->next) {
        const server_rec *first = first_at(main_server, server, address);
        if (first->limit_req_line < LINE_NEEDED) {
            warn(server, first, pool);
            return;
        }
    }
}
