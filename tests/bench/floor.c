/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor: the bare RSA operations of an enrolment and nothing else, with RSA-2048 and keys that are loaded already.
 * Opening the device's message: one decryption, two verifications (message, certificate request); the CA's: a
 * signature, an encryption, a decryption, a verification; the device's answer: a signature, an encryption.
 *
 *   floor COUNT [THREADS]   prints JSON: milliseconds of processor time for an enrolment and for each kind of operation
 */
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DECRYPTIONS = 2, SIGNATURES = 2, VERIFICATIONS = 3, ENCRYPTIONS = 2, KEY_BYTES = 256, CONTENT_BYTES = 256 };

static EVP_PKEY *key;
static unsigned char content[CONTENT_BYTES];
static int count;

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "floor: %s\n", what);
        exit(2);
    }
}

static size_t encrypt_once(unsigned char out[KEY_BYTES])
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    size_t len = KEY_BYTES;

    must(context && EVP_PKEY_encrypt_init(context) > 0 && EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) > 0 &&
             EVP_PKEY_encrypt(context, out, &len, content, 32) > 0,
         "encrypt");
    EVP_PKEY_CTX_free(context);
    return len;
}

static void decrypt_once(const unsigned char *in, size_t in_len)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    unsigned char out[KEY_BYTES];
    size_t len = sizeof(out);

    must(context && EVP_PKEY_decrypt_init(context) > 0 && EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) > 0 &&
             EVP_PKEY_decrypt(context, out, &len, in, in_len) > 0,
         "decrypt");
    EVP_PKEY_CTX_free(context);
}

static size_t sign_once(unsigned char out[KEY_BYTES])
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    size_t len = KEY_BYTES;

    must(context && EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) > 0 &&
             EVP_DigestSign(context, out, &len, content, sizeof(content)) > 0,
         "sign");
    EVP_MD_CTX_free(context);
    return len;
}

static void verify_once(const unsigned char *signature, size_t len)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    must(context && EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key) > 0 &&
             EVP_DigestVerify(context, signature, len, content, sizeof(content)) > 0,
         "verify");
    EVP_MD_CTX_free(context);
}

typedef struct times_t {
    double decryption, signature, verification, encryption;
} times_t;

static double thread_time(void)
{
    struct timespec at;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static double lap(double *since)
{
    double now = thread_time();
    double spent = now - *since;

    *since = now;
    return spent;
}

static void *work(void *data)
{
    times_t *times = data;
    unsigned char cipher[KEY_BYTES], signature[KEY_BYTES];
    size_t cipher_len = 0, signature_len = 0;
    double since = thread_time();

    for (int i = 0; i < count; i++) {
        for (int j = 0; j < ENCRYPTIONS; j++) {
            cipher_len = encrypt_once(cipher);
        }
        times->encryption += lap(&since);
        for (int j = 0; j < DECRYPTIONS; j++) {
            decrypt_once(cipher, cipher_len);
        }
        times->decryption += lap(&since);
        for (int j = 0; j < SIGNATURES; j++) {
            signature_len = sign_once(signature);
        }
        times->signature += lap(&since);
        for (int j = 0; j < VERIFICATIONS; j++) {
            verify_once(signature, signature_len);
        }
        times->verification += lap(&since);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = argc > 2 ? atoi(argv[2]) : 1;
    pthread_t *ids = calloc((size_t)threads, sizeof(*ids));
    times_t *times = calloc((size_t)threads, sizeof(*times));
    times_t sum = {0};
    double all = 0;

    count = argc > 1 ? atoi(argv[1]) : 0;
    key = EVP_RSA_gen(2048);
    must(count > 0 && threads > 0 && ids && times && key, "usage: floor COUNT [THREADS]");
    memset(content, 0x5a, sizeof(content));
    for (int i = 0; i < threads; i++) {
        must(pthread_create(&ids[i], NULL, work, &times[i]) == 0, "thread");
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        sum.decryption += times[i].decryption;
        sum.signature += times[i].signature;
        sum.verification += times[i].verification;
        sum.encryption += times[i].encryption;
    }
    all = 1000.0 / count / threads;
    printf("{\"enrolment\": %.6f, \"decryption\": %.6f, \"signature\": %.6f, \"verification\": %.6f, \"encryption\": %.6f}\n",
           (sum.decryption + sum.signature + sum.verification + sum.encryption) * all,
           sum.decryption * all / DECRYPTIONS, sum.signature * all / SIGNATURES, sum.verification * all / VERIFICATIONS,
           sum.encryption * all / ENCRYPTIONS);
    return 0;
}
