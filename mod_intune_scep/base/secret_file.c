/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret_file.h"

#include "base/secret.h"
#include "base/text.h"

#include <apr_strings.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { PATH_SHOWN = 512 };

/* Set while the server starts, with one thread. */
static uid_t server_user;
static bool is_server_user_known;

void secret_server_user(uid_t user)
{
    server_user = user;
    is_server_user_known = true;
}

/* Root starts the server and gives its rights up later, to a user whom a tool may not know. */
static bool owner_is_safe(uid_t owner, uid_t *wanted)
{
    uid_t self = geteuid();

    *wanted = self != 0 ? self : server_user;
    return owner == 0 || owner == *wanted || (self == 0 && !is_server_user_known);
}

static apr_status_t complain_errno(int code, const char *path, apr_pool_t *pool, const char **message)
{
    char text[128];

    *message = apr_psprintf(pool, "%s cannot be read: %s", text_escape(pool, path, PATH_SHOWN),
                            apr_strerror(APR_FROM_OS_ERROR(code), text, sizeof(text)));
    return APR_FROM_OS_ERROR(code);
}

static apr_status_t kind_check(const struct stat *facts, const char *path, bool directory, apr_pool_t *pool,
                               const char **message)
{
    if (directory ? S_ISDIR(facts->st_mode) : S_ISREG(facts->st_mode))
        return APR_SUCCESS;
    *message = apr_psprintf(pool, "%s is not a %s", text_escape(pool, path, PATH_SHOWN),
                            directory ? "directory" : "regular file");
    return directory ? APR_ENOTDIR : APR_EINVAL;
}

static apr_status_t facts_check(const struct stat *facts, const char *path, bool directory, apr_pool_t *pool,
                                const char **message)
{
    const char *shown = text_escape(pool, path, PATH_SHOWN);
    unsigned mode = (unsigned)facts->st_mode & 07777u;
    uid_t wanted = 0;
    apr_status_t rv = kind_check(facts, path, directory, pool, message);

    if (rv != APR_SUCCESS)
        return rv;
    if (!owner_is_safe(facts->st_uid, &wanted)) {
        *message = apr_psprintf(pool, "%s is owned by user %lu, not by root or user %lu: chown mends it", shown,
                                (unsigned long)facts->st_uid, (unsigned long)wanted);
        return APR_EACCES;
    }
    if (mode & S_IRWXO) {
        *message = apr_psprintf(pool, "%s is open to others (mode %04o): chmod %s mends it", shown, mode,
                                mode & S_IWGRP ? "g-w,o-rwx" : "o-rwx");
        return APR_EACCES;
    }
    if (mode & S_IWGRP) {
        *message = apr_psprintf(pool, "%s is writable by its group (mode %04o): chmod g-w mends it", shown, mode);
        return APR_EACCES;
    }
    return APR_SUCCESS;
}

apr_status_t secret_path_check(const char *path, bool directory, apr_pool_t *pool, const char **message)
{
    struct stat facts;

    if (stat(path, &facts) != 0)
        return complain_errno(errno, path, pool, message);
    return facts_check(&facts, path, directory, pool, message);
}

bool secret_file_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static apr_status_t read_all(int fd, secret_file_t *file)
{
    while (file->len < sizeof(file->bytes)) {
        ssize_t got = read(fd, file->bytes + file->len, sizeof(file->bytes) - file->len);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return APR_FROM_OS_ERROR(errno);
        if (got == 0)
            break;
        file->len += (apr_size_t)got;
    }
    return APR_SUCCESS;
}

apr_status_t secret_file_read(secret_file_t *file, const char *path, bool guarded, apr_pool_t *pool,
                              const char **message)
{
    struct stat after;
    apr_status_t rv = APR_SUCCESS;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    file->len = 0;
    if (fd < 0)
        return complain_errno(errno, path, pool, message);
    if (fstat(fd, &file->facts) != 0)
        rv = complain_errno(errno, path, pool, message);
    else if (guarded)
        rv = facts_check(&file->facts, path, false, pool, message);
    else
        rv = kind_check(&file->facts, path, false, pool, message);
    if (rv == APR_SUCCESS && (rv = read_all(fd, file)) != APR_SUCCESS)
        rv = complain_errno(APR_TO_OS_ERROR(rv), path, pool, message);
    if (rv == APR_SUCCESS && (fstat(fd, &after) != 0 || !secret_file_same(&file->facts, &after))) {
        *message = apr_psprintf(pool, "%s changed while it was read", text_escape(pool, path, PATH_SHOWN));
        rv = APR_EGENERAL;
    }
    close(fd);
    return rv;
}
