/* SPDX-License-Identifier: Apache-2.0 */
#include "base/event.h"

#include "base/command.h"
#include "base/json.h"

#include <apr_strings.h>
#include <json-c/json.h>

const char *event_json(const event_t *event, apr_pool_t *pool)
{
    json_object *object = json_object_new_object();
    const char *text = NULL;
    if (object && json_add_text(object, "event", event->name, pool) &&
        json_add_text(object, "time", json_time(event->time, pool), pool) &&
        json_add_text(object, "location", event->location, pool) &&
        json_add_text(object, "transaction", event->transaction, pool) &&
        json_add_text(object, "serial", event->serial, pool) && json_add_text(object, "detail", event->detail, pool)) {
        text = json_ascii(object, pool);
    }
    json_object_put(object);
    return text;
}

apr_status_t event_run(const char *command, const event_t *event, apr_interval_time_t limit, apr_pool_t *pool,
                       const char **message)
{
    const char *json = event_json(event, pool);
    if (!json) {
        *message = "memory ran out for the event";
        return APR_ENOMEM;
    }
    command_t run = {.text = command,
                     .last_argument = event->name,
                     .input = bytes_of_text(apr_pstrcat(pool, json, "\n", NULL)),
                     .limit = limit};
    return command_run(&run, pool, message);
}
