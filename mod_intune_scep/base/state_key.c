/* SPDX-License-Identifier: Apache-2.0 */
#include "base/state_key.h"

#include "base/text.h"

#include <apr_strings.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MADE_BYTES = 32, MADE_DIGITS = 2 * MADE_BYTES, LINE_BYTES = MADE_DIGITS + 1, PATH_SHOWN = 512 };

struct state_key_t {
    const secret_t *text;
};

static apr_status_t complain_errno(int code, const char *path, const char *what, apr_pool_t *pool, const char **message)
{
    char text[128];

    *message = apr_psprintf(pool, "%s cannot be %s: %s", text_escape(pool, path, PATH_SHOWN), what,
                            apr_strerror(APR_FROM_OS_ERROR(code), text, sizeof(text)));
    return APR_FROM_OS_ERROR(code);
}

apr_status_t state_key_from_source(state_key_t **key, const char *specification, apr_pool_t *pool, const char **message)
{
    secret_source_t *source = NULL;
    state_key_t *made = apr_palloc(pool, sizeof(*made));
    apr_status_t rv = secret_source_make(&source, specification, pool, message);

    if (rv != APR_SUCCESS)
        return rv;
    made->text = secret_source_read(source, pool);
    if (secret_length(made->text) < STATE_KEY_MIN) {
        *message = apr_psprintf(pool,
                                "the key has %" APR_SIZE_T_FMT " bytes, but needs at least %d: "
                                "openssl rand -hex 32 makes a good one",
                                secret_length(made->text), STATE_KEY_MIN);
        return APR_EINVAL;
    }
    *key = made;
    return APR_SUCCESS;
}

static int write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t wrote = write(fd, text, len);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return errno;
        text += wrote;
        len -= (size_t)wrote;
    }
    return 0;
}

/* Gives errno. The directory may be another user's: nothing that he put there before is opened. */
static int file_fill(int directory, const char *name, const char line[LINE_BYTES], uid_t user, gid_t group)
{
    int fd = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
    int code = fd < 0 ? errno : 0;

    if (fd < 0)
        return code;
    if (geteuid() == 0 && fchown(fd, user, group) != 0)
        code = errno;
    /* The umask may have taken more away than is meant. */
    if (code == 0 && fchmod(fd, S_IRUSR | S_IWUSR) != 0)
        code = errno;
    if (code == 0)
        code = write_all(fd, line, LINE_BYTES);
    if (code == 0 && fsync(fd) != 0)
        code = errno;
    if (close(fd) != 0 && code == 0)
        code = errno;
    return code;
}

static bool line_make(char line[LINE_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char random[MADE_BYTES];
    int i;

    if (RAND_priv_bytes(random, sizeof(random)) != 1)
        return false;
    for (i = 0; i < MADE_BYTES; i++) {
        line[2 * i] = digits[random[i] >> 4];
        line[2 * i + 1] = digits[random[i] & 15];
    }
    line[MADE_DIGITS] = '\n';
    OPENSSL_cleanse(random, sizeof(random));
    return true;
}

/* Gives errno. A link, unlike a rename, fails where somebody else was quicker: then his key counts. */
static int file_make(int directory, uid_t user, gid_t group, apr_pool_t *pool)
{
    const char *suffix = text_random_hex(pool, 8);
    const char *name = apr_pstrcat(pool, STATE_KEY_FILE ".", suffix ? suffix : "", NULL);
    char line[LINE_BYTES];
    int code;

    if (!suffix || !line_make(line))
        return EIO;
    code = file_fill(directory, name, line, user, group);
    OPENSSL_cleanse(line, sizeof(line));
    if (code == EEXIST)
        return code;
    if (code == 0 && linkat(directory, name, directory, STATE_KEY_FILE, 0) != 0 && errno != EEXIST)
        code = errno;
    unlinkat(directory, name, 0);
    if (code == 0 && fsync(directory) != 0)
        code = errno;
    return code;
}

/* Makes the file where there is none, and looks at whose it is. */
static apr_status_t file_find(const char *path, const char *directory, uid_t user, gid_t group, apr_pool_t *pool,
                              const char **message)
{
    struct stat facts;
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int code = fd < 0 ? errno : 0;

    if (fd < 0)
        return complain_errno(code, directory, "opened", pool, message);
    if (fstatat(fd, STATE_KEY_FILE, &facts, AT_SYMLINK_NOFOLLOW) != 0) {
        code = errno == ENOENT ? file_make(fd, user, group, pool) : errno;
        if (code == 0 && fstatat(fd, STATE_KEY_FILE, &facts, AT_SYMLINK_NOFOLLOW) != 0)
            code = errno;
    }
    close(fd);
    if (code != 0)
        return complain_errno(code, path, "made", pool, message);
    if (!S_ISREG(facts.st_mode)) {
        *message = apr_psprintf(pool, "%s is not a regular file", text_escape(pool, path, PATH_SHOWN));
        return APR_EINVAL;
    }
    if (facts.st_uid != 0 && facts.st_uid != user) {
        *message = apr_psprintf(pool, "%s is owned by user %lu, not by root or the server's user %lu: chown mends it",
                                text_escape(pool, path, PATH_SHOWN), (unsigned long)facts.st_uid, (unsigned long)user);
        return APR_EACCES;
    }
    return APR_SUCCESS;
}

apr_status_t state_key_from_directory(state_key_t **key, const char *directory, uid_t user, gid_t group,
                                      apr_pool_t *pool, const char **message)
{
    const char *path = apr_pstrcat(pool, directory, "/" STATE_KEY_FILE, NULL);
    secret_source_t *source = NULL;
    state_key_t *made = apr_palloc(pool, sizeof(*made));
    apr_status_t rv;

    if ((rv = file_find(path, directory, user, group, pool, message)) != APR_SUCCESS ||
        (rv = secret_source_make(&source, apr_pstrcat(pool, "file:", path, NULL), pool, message)) != APR_SUCCESS)
        return rv;
    made->text = secret_source_read(source, pool);
    if (secret_length(made->text) != MADE_DIGITS ||
        strspn(secret_reveal(made->text), "0123456789ABCDEFabcdef") != MADE_DIGITS) {
        *message = apr_psprintf(pool,
                                "%s does not hold %d hexadecimal digits: "
                                "copy it anew from the other machine, or remove it and another is made",
                                text_escape(pool, path, PATH_SHOWN), MADE_DIGITS);
        return APR_EINVAL;
    }
    *key = made;
    return APR_SUCCESS;
}

apr_status_t state_key_derive(const state_key_t *key, const char *purpose, unsigned char derived[STATE_KEY_DERIVED])
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    char digest[] = "SHA256";
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(apr_uintptr_t)secret_reveal(key->text),
                                          secret_length(key->text)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(apr_uintptr_t)purpose, strlen(purpose)),
        OSSL_PARAM_construct_end()};
    apr_status_t rv = APR_EGENERAL;

    if (context && EVP_KDF_derive(context, derived, STATE_KEY_DERIVED, parameters) == 1)
        rv = APR_SUCCESS;
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return rv;
}
