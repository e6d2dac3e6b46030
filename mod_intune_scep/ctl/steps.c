/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/steps.h"

#include <apr_strings.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>

enum { NAME_COLUMN = 16, COLOUR_COLUMN = 8 };

const char *ctl_colour_name(ctl_colour_t colour)
{
    static const char *const NAMES[] = {
        [CTL_SKIPPED] = "skipped", [CTL_GREEN] = "green", [CTL_YELLOW] = "yellow", [CTL_RED] = "red"};
    return NAMES[colour];
}

static apr_status_t steps_end(void *data)
{
    json_object_put(ctl_steps_take(data));
    return APR_SUCCESS;
}

struct json_object *ctl_steps_take(ctl_steps_t *steps)
{
    json_object *list = steps->list;
    steps->list = NULL;
    return list;
}

ctl_steps_t *ctl_steps_make(ctl_t *ctl)
{
    ctl_steps_t *steps = apr_pcalloc(ctl->pool, sizeof(*steps));
    steps->ctl = ctl;
    steps->worst = CTL_GREEN;
    steps->list = ctl->json ? json_object_new_array() : NULL;
    apr_pool_cleanup_register(ctl->pool, steps, steps_end, apr_pool_cleanup_null);
    return steps;
}

void ctl_step(ctl_steps_t *steps, const char *name, ctl_colour_t colour, const char *remedy, const char *format, ...)
{
    const ctl_t *ctl = steps->ctl;
    va_list arguments;
    va_start(arguments, format);
    const char *found = ctl_flat(ctl, apr_pvsprintf(ctl->pool, format, arguments));
    va_end(arguments);
    remedy = remedy && *remedy ? ctl_flat(ctl, remedy) : NULL;
    steps->worst = colour > steps->worst ? colour : steps->worst;
    if (ctl->json) {
        json_object *object = ctl_object();
        ctl_add_text(ctl, object, "step", name);
        ctl_add_text(ctl, object, "status", ctl_colour_name(colour));
        ctl_add_text(ctl, object, "found", found);
        ctl_add_text(ctl, object, "remedy", remedy);
        json_object_array_add(steps->list, object);
        return;
    }
    printf("%-*s%-*s %s\n", COLOUR_COLUMN, ctl_colour_name(colour), NAME_COLUMN, name, found);
    if (remedy) {
        printf("%*s %s\n", COLOUR_COLUMN + NAME_COLUMN + 2, "->", remedy);
    }
    /* Some steps take long: the one before is to be seen meanwhile. */
    fflush(stdout);
}
