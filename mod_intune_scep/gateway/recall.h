/* SPDX-License-Identifier: Apache-2.0 */
/* What the journal's row means for a device that comes, perhaps again. */
#ifndef ISCEP_GATEWAY_RECALL_H
#define ISCEP_GATEWAY_RECALL_H

#include "transaction.h"

typedef enum recall_t {
    RECALL_ANSWERED, /**< the reply is decided: in the result, in `pending`, or a certificate to deliver */
    RECALL_WAIT,     /**< somebody is at it */
    RECALL_ISSUE,    /**< Intune is to be asked, and then the CA */
    RECALL_POLL,     /**< the CA is to be asked by CertPoll */
    RECALL_REPORT    /**< Intune is to be told of the certificate first, which nobody else does */
} recall_t;

/**
 * Decides from a row; for RECALL_ISSUE, RECALL_POLL and RECALL_REPORT the transaction's `csr` is set, `polling` for the
 * second, and the certificate for the third. Nothing is claimed.
 */
recall_t recall(transaction_t *transaction, const journal_row_t *row);

/** "come back": the device repeats itself, or polls. */
apr_status_t recall_come_back(transaction_t *transaction, const char *detail);

#endif
