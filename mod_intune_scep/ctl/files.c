/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/files.h"

#include <apr_file_info.h>
#include <apr_strings.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SHOWN = 300, KEY_BITS = 2048 };

ctl_exit_t ctl_file_read(ctl_t *ctl, const char *path, bytes_t *bytes)
{
    bool standard = !strcmp(path, "-");
    FILE *stream = standard ? stdin : fopen(path, "re");
    ctl_exit_t status = CTL_DONE;
    if (!stream) {
        return ctl_fail(ctl, CTL_UNUSABLE, "%s cannot be read: %s", ctl_shown(ctl, path, PATH_SHOWN), strerror(errno));
    }
    char *room = apr_palloc(ctl->pool, CTL_FILE_MAX + 1);
    size_t len = fread(room, 1, CTL_FILE_MAX + 1, stream);
    if (ferror(stream)) {
        status =
            ctl_fail(ctl, CTL_UNUSABLE, "%s cannot be read: %s", ctl_shown(ctl, path, PATH_SHOWN), strerror(errno));
    } else if (len > CTL_FILE_MAX) {
        status = ctl_fail(ctl, CTL_UNUSABLE, "%s is too large", ctl_shown(ctl, path, PATH_SHOWN));
    }
    room[len <= CTL_FILE_MAX ? len : CTL_FILE_MAX] = '\0';
    bytes->data = (const unsigned char *)room;
    bytes->len = len;
    if (!standard) {
        fclose(stream);
    }
    return status;
}

static bool write_all(int fd, bytes_t bytes)
{
    while (bytes.len) {
        ssize_t done = write(fd, bytes.data, bytes.len);
        if (done < 0 && errno != EINTR) {
            return false;
        }
        bytes.data += done > 0 ? done : 0;
        bytes.len -= done > 0 ? (apr_size_t)done : 0;
    }
    return true;
}

ctl_exit_t ctl_file_write(ctl_t *ctl, const char *path, bytes_t bytes, int mode)
{
    char *name = apr_pstrcat(ctl->pool, path, ".XXXXXX", NULL);
    int fd = mkstemp(name);
    bool good = fd >= 0 && !fchmod(fd, (mode_t)mode) && write_all(fd, bytes) && !fsync(fd);
    int code = errno;
    if (fd >= 0 && close(fd) && good) {
        code = errno;
        good = false;
    }
    if (good && rename(name, path)) {
        code = errno;
        good = false;
    }
    if (!good) {
        if (fd >= 0) {
            unlink(name);
        }
        return ctl_fail(ctl, CTL_FAILED, "%s cannot be written: %s", ctl_shown(ctl, path, PATH_SHOWN), strerror(code));
    }
    return CTL_DONE;
}

ctl_exit_t ctl_file_try(ctl_t *ctl, const char *path)
{
    struct stat facts;
    char *name = apr_pstrcat(ctl->pool, path, ".XXXXXX", NULL);
    bool is_directory = !stat(path, &facts) && S_ISDIR(facts.st_mode);
    int fd = is_directory ? -1 : mkstemp(name);
    if (fd < 0) {
        return ctl_fail(ctl, CTL_UNUSABLE, "%s cannot be written: %s", ctl_shown(ctl, path, PATH_SHOWN),
                        strerror(is_directory ? EISDIR : errno));
    }
    close(fd);
    unlink(name);
    return CTL_DONE;
}

static ctl_exit_t key_new(ctl_t *ctl, const scep_engine_t *engine, const char *path, EVP_PKEY **key)
{
    ctl_exit_t status = ctl_file_try(ctl, path);
    if (status) {
        return status;
    }
    *key = scep_client_key_make(engine, KEY_BITS, ctl->pool);
    bytes_t pem = *key ? scep_client_key_print(*key, ctl->pool) : (bytes_t){NULL, 0};
    return pem.len ? ctl_file_write(ctl, path, pem, 0600) : ctl_fail(ctl, CTL_FAILED, "no key can be made");
}

ctl_exit_t ctl_key_take(ctl_t *ctl, const scep_engine_t *engine, const char *path, bool make, EVP_PKEY **key)
{
    const char *message = NULL;
    struct stat facts;
    if (make && stat(path, &facts) && errno == ENOENT) {
        return key_new(ctl, engine, path, key);
    }
    if (secret_path_check(path, false, ctl->pool, &message) || scep_key_load(key, engine, path, ctl->pool, &message)) {
        return ctl_fail(ctl, CTL_UNUSABLE, "%s", message);
    }
    return CTL_DONE;
}

ctl_exit_t ctl_certificate_take(ctl_t *ctl, const scep_engine_t *engine, const char *path, X509 **certificate)
{
    STACK_OF(X509) *certificates = NULL;
    const char *message = NULL;
    if (scep_certificates_load(&certificates, engine, path, ctl->pool, &message)) {
        return ctl_fail(ctl, CTL_UNUSABLE, "%s", message);
    }
    *certificate = sk_X509_value(certificates, 0);
    return CTL_DONE;
}

const char *ctl_specification(const ctl_t *ctl, const char *specification)
{
    char *path = NULL;
    bool is_path = !strncmp(specification, "file:", 5) &&
                   !apr_filepath_merge(&path, NULL, specification + 5, APR_FILEPATH_TRUENAME, ctl->pool);
    return is_path ? apr_pstrcat(ctl->pool, "file:", path, NULL) : specification;
}

ctl_exit_t ctl_secret_take(ctl_t *ctl, const char *name, const char *specification, const secret_t **secret)
{
    secret_source_t *source = NULL;
    const char *message = NULL;
    if (secret_source_make(&source, ctl_specification(ctl, specification), ctl->pool, &message)) {
        return ctl_fail(ctl, CTL_UNUSABLE, "--%s: %s", name, message);
    }
    *secret = secret_source_read(source, ctl->pool);
    return CTL_DONE;
}
