/* SPDX-License-Identifier: Apache-2.0 */
/* Notes for the access log: LogFormat "%{intune-scep-outcome}n". What is not known has no note, and shows as "-". */
#include "module.h"
#include "gateway/account.h"

#include "base/text.h"

#include <apr_strings.h>

enum { NOTE_MAX = 300 };

static void note(request_rec *r, const char *name, const char *value)
{
    if (value && *value) {
        apr_table_setn(r->notes, name, value);
    }
}

static void note_ms(request_rec *r, const char *name, apr_interval_time_t time)
{
    if (time) {
        apr_table_setn(r->notes, name, apr_psprintf(r->pool, "%" APR_TIME_T_FMT, apr_time_as_msec(time)));
    }
}

void notes_set(request_rec *r, const transaction_t *t)
{
    note(r, "intune-scep-location", text_escape(r->pool, t->profile->name, NOTE_MAX));
    note(r, "intune-scep-transaction", t->log->transaction);
    note(r, "intune-scep-outcome", account_outcome(t));
    note(r, "intune-scep-code", t->result->code);
    note(r, "intune-scep-request-id", t->result->request_id);
    note(r, "intune-scep-reference", t->reference);
    note_ms(r, "intune-scep-validate-ms", t->validate_time);
    note_ms(r, "intune-scep-ca-ms", t->ca_time);
    note_ms(r, "intune-scep-report-ms", t->report_time);
}
