/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam between the core and whoever keeps the log (httpd's error log, a test, a command-line tool).
 *
 * Every message from debug up has an id of its own in messages.def, which also fixes its level. The core logs what
 * it does; a failure it returns as a result_t instead, and the edge logs that once.
 */
#ifndef ISCEP_BASE_LOG_H
#define ISCEP_BASE_LOG_H

#include <stdbool.h>

typedef enum log_level_t { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_NOTICE, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG,
                           LOG_LEVEL_TRACE } log_level_t;

/** The names of all messages: MSG_… */
typedef enum message_t {
#define MESSAGE(symbol, id, level, meaning, remedy) MSG_##symbol,
#include "messages.def"
#undef MESSAGE
    MSG_COUNT
} message_t;

typedef struct message_facts_t {
    unsigned id;         /**< the number in ISCEP0123, never used again for another message */
    log_level_t level;
    const char *meaning; /**< for docs/log-messages.md: what it says */
    const char *remedy;  /**< for docs/log-messages.md: what to do, "" where nothing is to be done */
} message_facts_t;

/** Where lines go. Made by the edge, one for each request or background task; used by one thread at a time. */
typedef struct log_t {
    void (*write)(void *baton, log_level_t level, const char *line);
    bool (*enabled)(void *baton, log_level_t level);
    void *baton;
    const char *transaction; /**< the transactionID, escaped, or NULL before it is known: every line starts with it */
    struct repeats_t *repeats; /**< of the location (base/repeats.h), or NULL: every line is written as it is */
} log_t;

/** The facts of a message. Never NULL. */
const message_facts_t *log_message_facts(message_t message);

/** Whether lines of this level are wanted; for those whose making takes effort. */
bool log_enabled(const log_t *log, log_level_t level);

/**
 * Writes one line, "ISCEP0123: [transaction] text", at the level of messages.def. A NULL `log` writes nothing. Text
 * from outside must have gone through text_escape() before. Lines end at 4,000 bytes. What `repeats` sums up may be
 * written at info instead.
 */
void log_write(const log_t *log, message_t message, const char *format, ...) __attribute__((format(printf, 3, 4)));

/** The same for a line whose id and level come from another table (problems.def). */
void log_write_as(const log_t *log, unsigned id, log_level_t level, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
