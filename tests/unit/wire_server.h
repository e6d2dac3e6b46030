/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server on loopback for test_http.c, which misbehaves on the wire as the path of the request tells: see the table in
 * wire_server.c. With TLS if it is given a context.
 */
#ifndef ISCEP_TESTS_WIRE_SERVER_H
#define ISCEP_TESTS_WIRE_SERVER_H

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

enum { WIRE_REQUEST_MAX = 16384, WIRE_CONNECTIONS_MAX = 64 };

typedef struct wire_server_t {
    int socket;
    int port;
    SSL_CTX *tls;
    pthread_t thread;
    atomic_bool stopping;
    atomic_int connections; /* accepted so far */
    atomic_int closed;      /* of these, how many have ended */
    atomic_int requests;    /* read so far */
    atomic_int running;     /* requests to /slow being answered now, and the most at once */
    atomic_int most_running;
    pthread_mutex_t mutex;
    char last[WIRE_REQUEST_MAX]; /* the last request, head and body */
} wire_server_t;

/** Starts the server; `tls` may be NULL. Gives 0 on success. */
int wire_server_start(wire_server_t *server, SSL_CTX *tls);

/** Ends every connection and joins all threads. */
void wire_server_stop(wire_server_t *server);

/** A port on loopback where nobody listens. */
int wire_closed_port(void);

#endif
