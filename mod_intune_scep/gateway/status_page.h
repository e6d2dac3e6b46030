/* SPDX-License-Identifier: Apache-2.0 */
/* What the two files of the status page share. Everything from outside goes through writer_html(). */
#ifndef ISCEP_GATEWAY_STATUS_PAGE_H
#define ISCEP_GATEWAY_STATUS_PAGE_H

#include "status.h"

#include "base/writer.h"

enum { PAGE_NAME = 128, PAGE_TEXT = 300, PAGE_SUBJECT = 120 };

/** A coloured word for the level. */
void page_badge(writer_t *w, status_level_t level);

/** <time>: "12 s ago" or "in 40 days", with the time itself as title. */
void page_time(writer_t *w, apr_time_t time, apr_time_t now);

/** "250 ms", "1.2 s" */
void page_ms(writer_t *w, double ms);

/** "served", or by the level of the problem's log line "told", "warned", "refused". */
const char *page_outcome_class(int outcome);

/** One location's section. */
void page_location(writer_t *w, const status_t *status, int index);

/** A <details> with directives; nothing where there are none. */
void page_settings(writer_t *w, const char *title, const apr_array_header_t *settings);

#endif
