/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GetCert and GetCRL (RFC 8894 sections 3.3.4 and 3.3.5): holders of a certificate of our CA ask for one, or for a
 * revocation list. They go to the CA in the gateway's name and come back checked. No PKCS #10 is in them and nothing is
 * issued, so that Intune is neither asked nor told.
 */
#ifndef ISCEP_GATEWAY_INQUIRY_H
#define ISCEP_GATEWAY_INQUIRY_H

#include "transaction.h"

/** Whether the opened message is one. */
bool transaction_is_inquiry(const transaction_t *transaction);

/** The CertRep SUCCESS for the device, from what the CA answered. */
apr_status_t inquiry_answer(transaction_t *transaction);

/** The line that tells that it was answered. */
void inquiry_log(const transaction_t *transaction);

#endif
