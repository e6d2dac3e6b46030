/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PKI of the unit tests for fuzzers: keys are made when the process starts, from numbers that are no random ones, so
 * that an input does the same in each process (but for the certificates' dates). An input is a few bytes: which message
 * is made, in which of its layers it is changed before it is encrypted or signed, and how.
 */
#ifndef ISCEP_TESTS_FUZZ_PKI_H
#define ISCEP_TESTS_FUZZ_PKI_H

#include "fuzz.h"
#include "pki_fixture.h"

/** Once for each input, before anything is made: begins the row of numbers anew. */
pki_t *fuzz_pki(void);

/** Where the rest of the input goes. */
typedef enum fuzz_layer_t {
    FUZZ_NOTHING,  /**< nowhere: the message is sent as it was made */
    FUZZ_PLAIN,    /**< changes what is encrypted */
    FUZZ_PLAIN_IS, /**< is what is encrypted */
    FUZZ_ENVELOPE, /**< changes the envelope, which is signed then */
    FUZZ_ENVELOPE_IS,
    FUZZ_MESSAGE,  /**< changes the message as it is sent */
    FUZZ_LAYERS
} fuzz_layer_t;

/** Makes the message with the rest of the input in that layer. `message->plain` and `->content` are as they were sent. */
bytes_t fuzz_message_make(fuzz_t *fuzz, pki_t *pki, pki_message_t *message, fuzz_layer_t layer);

#endif
