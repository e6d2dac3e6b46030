/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzzers share. Each is one file with LLVMFuzzerTestOneInput() on the core library. `make fuzzers` of a build with
 * --enable-fuzzers links them with libFuzzer; any other build links them with replay.c, and `make check` runs each over
 * its corpus (tests/fuzz/corpus/NAME for tests/fuzz/fuzz_NAME).
 */
#ifndef ISCEP_TESTS_FUZZ_H
#define ISCEP_TESTS_FUZZ_H

#include "base/bytes.h"

#include <apr_pools.h>
#include <stdint.h>

/** libFuzzer's entry: one input, and always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** One input, eaten from its front. */
typedef struct fuzz_t {
    apr_pool_t *pool; /**< gone with the input */
    bytes_t rest;
} fuzz_t;

/** With sanitizers: from now on what is beyond a block of a pool must not be touched (fuzz_pool.c). */
void fuzz_pool_gaps(void);

fuzz_t *fuzz_begin(const uint8_t *data, size_t size);

/** Always 0, to be returned to libFuzzer. */
int fuzz_end(fuzz_t *fuzz);

/** The next byte; 0 at the end. */
unsigned fuzz_byte(fuzz_t *fuzz);

/** The next two bytes as one number; 0 at the end. */
unsigned fuzz_number(fuzz_t *fuzz);

/** What is before the next byte 0xff, which is eaten, too, or the end. No UTF-8 has that byte. */
bytes_t fuzz_part(fuzz_t *fuzz);

/** Such a part up to its first NUL, in memory of its own, so that AddressSanitizer sees what reads behind its end. */
const char *fuzz_text(fuzz_t *fuzz);

/** The same bytes as a text, likewise. */
const char *fuzz_text_of(fuzz_t *fuzz, bytes_t bytes);

/**
 * Changes some bytes as the rest of the input says, five bytes for each change: where (two), how, and what with (two). So a
 * few bytes of corpus stand for a change of a message that is made, encrypted and signed at run time.
 */
bytes_t fuzz_changed(fuzz_t *fuzz, bytes_t good);

/** A folder of this process's own, without a slash at its end, that is removed when the process ends as it should. */
const char *fuzz_folder(void);

/** Puts a file there that is never half-written, and gives its path. */
const char *fuzz_file(fuzz_t *fuzz, const char *name, bytes_t bytes);

/** What must hold for any input. Ends the process: that is a finding. */
#define fuzz_check(condition) fuzz_must((condition) ? 1 : 0, #condition, __FILE__, __LINE__)
void fuzz_must(int good, const char *what, const char *file, int line);

/** Base64 by OpenSSL, padding as far as it is there: what it decodes to, or an empty run where it is none. */
bytes_t fuzz_base64(fuzz_t *fuzz, const char *text);

#endif
