/* SPDX-License-Identifier: Apache-2.0 */
/* A row as a database may give it, column by column. */
#include "fuzz.h"

#include "store/journal_internal.h"

#include <apr_strings.h>
#include <openssl/evp.h>

static const char KEY[STATE_KEY_DERIVED + 1] = "0123456789abcdef0123456789abcdef";

enum { COLUMN_ID, COLUMN_CSR = 11, COLUMN_CERTIFICATE };

/* "\N" is a NULL; "seal:" in front of a CSR makes it one of ours. */
static const char *column_read(fuzz_t *fuzz, const journal_t *journal, const char *id, int column)
{
    const char *text = fuzz_text(fuzz);
    if (column == COLUMN_CSR && id && !strncmp(text, "seal:", 5)) {
        return journal_csr_seal(journal, id, bytes_of_text(text + 5), fuzz->pool);
    }
    return strcmp(text, "\\N") ? text : NULL;
}

/* Added to a clock it must be far from an overflow. */
static void time_check(apr_interval_time_t time)
{
    fuzz_check(time % 1000 == 0 && time > -APR_INT64_MAX / 4 && time < APR_INT64_MAX / 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_t *fuzz = fuzz_begin(data, size);
    journal_t journal = {.tag = "0123456789ABCDEF"};
    const char *column[JOURNAL_COLUMNS] = {NULL};
    memcpy(journal.csr_key, KEY, sizeof(journal.csr_key));
    for (int i = 0; i < JOURNAL_COLUMNS; i++) {
        column[i] = column_read(fuzz, &journal, column[COLUMN_ID], i);
    }
    const journal_row_t *row = journal_row_make(&journal, column, fuzz->pool);

    fuzz_check(row->id && row->location && row->transaction_id && row->key_fp && row->owner && row->request_id);
    fuzz_check(row->ra_fp && journal_state_name(row->state) && journal_report_name(row->report));
    fuzz_check(row->leased || !row->owner_gone);
    fuzz_check(row->tries >= 0);
    time_check(row->due_in);
    time_check(row->age);
    time_check(row->idle);
    const char *certificate = column[COLUMN_CERTIFICATE] ? column[COLUMN_CERTIFICATE] : "";
    char *again = apr_pcalloc(fuzz->pool, strlen(certificate) + 8);
    bytes_t wanted = fuzz_base64(fuzz, certificate);
    EVP_EncodeBlock((unsigned char *)again, wanted.data, (int)wanted.len);
    fuzz_check(bytes_equal(row->certificate, strcmp(again, certificate) ? (bytes_t){NULL, 0} : wanted));
    return fuzz_end(fuzz);
}
