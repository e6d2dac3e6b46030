/* SPDX-License-Identifier: Apache-2.0 */
/* What of a profile expires when. */
#ifndef ISCEP_GATEWAY_EXPIRY_H
#define ISCEP_GATEWAY_EXPIRY_H

#include "profile.h"
#include "settings.h"

enum { EXPIRY_WARN_DAYS = 30, EXPIRY_ERROR_DAYS = 7 };

typedef struct expiry_t {
    const char *what;      /**< "the RA's certificate" */
    const char *directive; /**< that it comes from */
    setting_id_t setting;  /**< the same */
    const char *subject;   /**< escaped; NULL for the application's */
    apr_time_t expires;
    int days;              /**< whole ones from now; negative: it has expired */
    bool matters;          /**< false for the former RA's, which is on its way out */
} expiry_t;

/** Of `expiry_t`, in a fixed order; a certificate that is both the RA's and the CA's is the RA's only. */
apr_array_header_t *expiry_list(const profile_t *profile, apr_pool_t *pool);

#endif
