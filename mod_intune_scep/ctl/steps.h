/* SPDX-License-Identifier: Apache-2.0 */
/* Work in steps, each with a colour. */
#ifndef ISCEP_CTL_STEPS_H
#define ISCEP_CTL_STEPS_H

#include "ctl/ctl.h"

typedef enum ctl_colour_t { CTL_SKIPPED, CTL_GREEN, CTL_YELLOW, CTL_RED } ctl_colour_t;

typedef struct ctl_steps_t {
    ctl_t *ctl;
    struct json_object *list; /**< of the steps, where they are for JSON */
    ctl_colour_t worst;
} ctl_steps_t;

ctl_steps_t *ctl_steps_make(ctl_t *ctl);

/**
 * Tells a step: printed at once, or kept for the JSON. Texts from outside in it are escaped.
 * @param remedy or NULL.
 */
void ctl_step(ctl_steps_t *steps, const char *name, ctl_colour_t colour, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/** Gives the list away, for a document to own; it ends with the pool otherwise. */
struct json_object *ctl_steps_take(ctl_steps_t *steps);

/** "green" … */
const char *ctl_colour_name(ctl_colour_t colour);

#endif
