/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of the SCEP test device; see README.md. */
#include "device.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>

static const char usage[] =
    "device request --ra RA.pem --out DIR [--count N] [--key PEM|--bits 2048] [--subject /CN=x-%d] [--san dns:a ...]\n"
    "               [--challenge TEXT|--challenge-file F] [--challenge-type printable|utf8] [--transaction ID]\n"
    "               [--type 19] [--cipher aes128] [--digest sha256] [--oaep] [--ber] [--recipients MORE.pem ...]\n"
    "               [--key-usage LIST] [--eku OIDS] [--csr FILE --key PEM] [--serial HEX] [--critical-aki]\n"
    "               [--signer-cert PEM --signer-key PEM] [--break WHAT]\n"
    "device request --ra RA.pem --out DIR --again DIR [--count N|--list FILE] [--type 20] [--new-signer] ...\n"
    "device answer  --dir DIR [--index N] --ca CHAIN.pem --ra RA.pem --message FILE\n"
    "device answers --dir DIR --ca CHAIN.pem --ra RA.pem --list FILE\n"
    "device get-message --message FILE\n";

static const char *const breakages[] = {
    "signature",
    "digest",
    "envelope",
    "envelope-start",
    "rsa",
    "recipient",
    "csr-signature",
    "csr-key",
    "not-a-csr",
    "sid",
    "two-extension-lists",
    "extension-twice",
    "no-challenge",
    "two-challenges",
    "two-values",
    "no-transaction",
    "no-nonce",
    "no-type",
    "double-type",
    "two-signers",
    "trailing",
    "empty-envelope",
    "no-content",
    "truncated",
    "long-transaction",
    "control-transaction",
};

bool device_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("device: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return false;
}

bool device_breaks(const device_options_t *options, const char *what)
{
    return options->breakage && strcmp(options->breakage, what) == 0;
}

static bool number_set(int *target, const char *text)
{
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (end == text || *end || value < 0 || value > 1000000)
        return false;
    *target = (int)value;
    return true;
}

static bool flag_set(device_options_t *options, const char *name)
{
    const struct {
        const char *name;
        bool *target;
    } flags[] = {{"--oaep", &options->oaep},
                 {"--ber", &options->ber},
                 {"--critical-aki", &options->critical_aki},
                 {"--new-signer", &options->new_signer}};
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (strcmp(name, flags[i].name) == 0)
            return *flags[i].target = true;
    }
    return false;
}

static bool number_option(device_options_t *options, const char *name, const char *value, bool *known)
{
    const struct {
        const char *name;
        int *target;
    } numbers[] = {{"--count", &options->count},
                   {"--bits", &options->bits},
                   {"--type", &options->type},
                   {"--index", &options->index}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strcmp(name, numbers[i].name) != 0)
            continue;
        *known = true;
        return number_set(numbers[i].target, value) || device_fail("%s wants a number, not '%s'", name, value);
    }
    return true;
}

static bool option_set(device_options_t *options, const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **target;
    } texts[] = {
        {"--ra", &options->ra},
        {"--out", &options->out},
        {"--key", &options->key},
        {"--subject", &options->subject},
        {"--challenge", &options->challenge},
        {"--challenge-file", &options->challenge_file},
        {"--challenge-type", &options->challenge_type},
        {"--transaction", &options->transaction},
        {"--cipher", &options->cipher},
        {"--digest", &options->digest},
        {"--signer-cert", &options->signer_cert},
        {"--signer-key", &options->signer_key},
        {"--break", &options->breakage},
        {"--csr", &options->csr},
        {"--key-usage", &options->key_usage},
        {"--eku", &options->eku},
        {"--serial", &options->serial},
        {"--dir", &options->dir},
        {"--ca", &options->ca},
        {"--message", &options->message},
        {"--again", &options->again},
        {"--list", &options->list},
    };
    bool known = false;
    if (!number_option(options, name, value, &known))
        return false;
    if (known)
        return true;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (strcmp(name, texts[i].name) == 0) {
            *texts[i].target = value;
            return true;
        }
    }
    if (strcmp(name, "--san") == 0)
        APR_ARRAY_PUSH(options->sans, const char *) = value;
    else if (strcmp(name, "--recipients") == 0)
        APR_ARRAY_PUSH(options->recipients, const char *) = value;
    else
        return device_fail("unknown option %s", name);
    return true;
}

static bool breakage_known(const device_options_t *options)
{
    /* These are bytes changed in finished DER, or in content that a stream has not kept. */
    static const char *const der_only[] = {"signature", "digest", "envelope", "envelope-start", "rsa"};
    for (size_t i = 0; options->ber && i < sizeof(der_only) / sizeof(der_only[0]); i++) {
        if (device_breaks(options, der_only[i]))
            return device_fail("--break %s does not go with --ber", options->breakage);
    }
    for (size_t i = 0; options->breakage && i < sizeof(breakages) / sizeof(breakages[0]); i++) {
        if (strcmp(options->breakage, breakages[i]) == 0)
            return true;
    }
    return !options->breakage || device_fail("unknown --break %s", options->breakage);
}

static bool options_parse(device_options_t *options, int argc, const char *const *argv)
{
    for (int i = 2; i < argc; i++) {
        if (flag_set(options, argv[i]))
            continue;
        if (i + 1 >= argc)
            return device_fail("%s: unknown, or its value is missing", argv[i]);
        if (!option_set(options, argv[i], argv[i + 1]))
            return false;
        i++;
    }
    if (!sim_cipher_by_name(options->cipher))
        return device_fail("unknown cipher '%s'", options->cipher);
    if (!sim_digest_by_name(options->digest))
        return device_fail("unknown digest '%s'", options->digest);
    return breakage_known(options);
}

static int request(device_options_t *options)
{
    if (!options->ra || !options->out)
        return device_fail("request wants --ra and --out"), 2;
    if (options->again && (options->csr || options->key || options->transaction))
        return device_fail("--again does not go with --csr, --key and --transaction"), 2;
    if (!options->again && (options->list || options->new_signer))
        return device_fail("--list and --new-signer want --again"), 2;
    return device_request(options) ? 0 : 2;
}

static int answer(device_options_t *options)
{
    if (!options->dir || !options->ca || !options->ra || !options->message)
        return device_fail("answer wants --dir, --ca, --ra and --message"), 2;
    return device_answer(options) ? 0 : 1;
}

static int answers(device_options_t *options)
{
    if (!options->dir || !options->ca || !options->ra || !options->list)
        return device_fail("answers wants --dir, --ca, --ra and --list"), 2;
    return device_answers(options) ? 0 : 2;
}

static int get_message(device_options_t *options)
{
    if (!options->message)
        return device_fail("get-message wants --message"), 2;
    return device_get_message(options) ? 0 : 2;
}

static int run(device_options_t *options, int argc, const char *const *argv)
{
    static const struct {
        const char *name;
        int (*run)(device_options_t *options);
    } verbs[] = {{"request", request}, {"answer", answer}, {"answers", answers}, {"get-message", get_message}};
    for (size_t i = 0; argc > 1 && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(argv[1], verbs[i].name) != 0)
            continue;
        if (!options_parse(options, argc, argv))
            return 2;
        options->libctx = sim_libctx_make(options->pool);
        if (!options->libctx)
            return device_fail("OpenSSL's default and legacy providers are both needed"), 2;
        return verbs[i].run(options);
    }
    fputs(usage, stderr);
    return 2;
}

int main(int argc, const char *const *argv, const char *const *env)
{
    device_options_t options = {
        .count = 1, .bits = 2048, .subject = "/CN=device-%d", .cipher = "aes128", .digest = "sha256"};
    if (apr_app_initialize(&argc, &argv, &env) != APR_SUCCESS || apr_pool_create(&options.pool, NULL) != APR_SUCCESS)
        return 2;
    options.sans = apr_array_make(options.pool, 4, sizeof(const char *));
    options.recipients = apr_array_make(options.pool, 4, sizeof(const char *));
    apr_pool_create(&options.last_pool, options.pool);
    int code = run(&options, argc, argv);
    apr_pool_destroy(options.pool);
    apr_terminate();
    return code;
}
