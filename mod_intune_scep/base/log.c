/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/repeats.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LINE_MAX_BYTES = 4000 };

static const message_facts_t messages[] = {
#define MESSAGE(symbol, id, level, meaning, remedy) {id, level, meaning, remedy},
#include "base/messages.def"
#undef MESSAGE
};

const message_facts_t *log_message_facts(message_t message)
{
    static const message_facts_t unknown = {0, LOG_LEVEL_ERROR, "", ""};

    return (unsigned)message < MSG_COUNT ? &messages[message] : &unknown;
}

bool log_enabled(const log_t *log, log_level_t level)
{
    return log && log->write && (!log->enabled || log->enabled(log->baton, level));
}

/* The caller escapes what comes from outside. A line break that slips through must not forge a second line. */
static void flatten(char *line)
{
    for (; *line; line++) {
        if ((unsigned char)*line < 0x20 || *line == 0x7f)
            *line = '?';
    }
}

__attribute__((format(printf, 4, 0))) static void line_write(const log_t *log, unsigned id, log_level_t level,
                                                             const char *format, va_list arguments)
{
    char line[LINE_MAX_BYTES + 1];
    int head, tail = 0;

    if (!log_enabled(log, level))
        return;
    head = snprintf(line, sizeof(line), "ISCEP%04u: [%s] ", id, log->transaction ? log->transaction : "-");
    if (head < 0)
        return;
    if ((size_t)head < sizeof(line))
        tail = vsnprintf(line + head, sizeof(line) - (size_t)head, format, arguments);
    if (tail < 0)
        line[head] = '\0';
    else if ((size_t)head + (size_t)tail >= sizeof(line))
        memcpy(line + LINE_MAX_BYTES - 3, "...", 4);
    flatten(line);
    level = repeats_weigh(log->repeats, log, id, level, line);
    if (log_enabled(log, level))
        log->write(log->baton, level, line);
}

void log_write(const log_t *log, message_t message, const char *format, ...)
{
    const message_facts_t *facts = log_message_facts(message);
    va_list arguments;

    va_start(arguments, format);
    line_write(log, facts->id, facts->level, format, arguments);
    va_end(arguments);
}

void log_write_as(const log_t *log, unsigned id, log_level_t level, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    line_write(log, id, level, format, arguments);
    va_end(arguments);
}
