/* SPDX-License-Identifier: Apache-2.0 */
#include "inquiry.h"

#include "base/text.h"

bool transaction_is_inquiry(const transaction_t *t)
{
    return t->request && scep_type_is_inquiry(t->request->type);
}

apr_status_t inquiry_answer(transaction_t *t)
{
    if (t->request->type == SCEP_GETCRL) {
        return scep_crl_success_build(&t->reply.body, t->profile->identity, t->request, t->answer->crl, t->pool,
                                      t->result);
    }
    return scep_success_build(&t->reply.body, t->profile->identity, t->request, t->answer->certificate, t->pool,
                              t->result);
}

void inquiry_log(const transaction_t *t)
{
    const scep_inquiry_t *inquiry = &t->request->inquiry;
    log_write(t->log, MSG_INQUIRY_ANSWERED, "%s: %s %s of %s delivered", t->profile->name,
              t->request->type == SCEP_GETCRL ? "the revocation list for" : "certificate", inquiry->serial,
              text_escape(t->pool, inquiry->issuer, 300));
}
