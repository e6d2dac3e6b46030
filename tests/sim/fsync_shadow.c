/* SPDX-License-Identifier: Apache-2.0 */
/*
 * To be preloaded: what would be left of a directory if the machine lost its power now. kill -9 does not tell, for the
 * page cache outlives the process.
 *
 *   ISCEP_SHADOW_FROM  the directory, absolute and without symbolic links; its subdirectories are left alone
 *   ISCEP_SHADOW_TO    an existing directory that all processes can write to
 *
 * Each fsync() or fdatasync() of a file directly in the one puts a copy of the file into the other, under the same
 * name, all at once. The copy is made before the real call, so that it never holds more than that call made durable,
 * and takes its place before the call returns, so that it holds all that somebody may rely on. Files that are removed,
 * renamed or linked are so in the copy at once, as far as they are there. Names that begin with a dot are this
 * library's own.
 *
 * Whatever cannot be done ends the process: a copy that is not true is worse than none.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *from, *to;

__attribute__((constructor)) static void set_up(void)
{
    from = getenv("ISCEP_SHADOW_FROM");
    to = getenv("ISCEP_SHADOW_TO");
    if (!from || !to || *from != '/')
        from = to = NULL;
}

static void must(int ok, const char *what, const char *path)
{
    if (!ok) {
        fprintf(stderr, "fsync_shadow: %s of %s: %s\n", what, path, strerror(errno));
        abort();
    }
}

/* PATH's last part if it is directly in the directory, else NULL. */
static const char *name_in(const char *path)
{
    size_t length = strlen(from);
    if (strncmp(path, from, length) != 0 || path[length] != '/')
        return NULL;
    const char *name = path + length + 1;
    return *name && *name != '.' && !strchr(name, '/') ? name : NULL;
}

static int path_of(int fd, char path[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return 1;
}

/* The same for what the *at() functions take. `path` gets the whole. */
static const char *name_at(int directory, const char *relative, char path[PATH_MAX])
{
    char start[PATH_MAX] = "";
    if (!from)
        return NULL;
    if (*relative != '/') {
        int known = directory == AT_FDCWD ? getcwd(start, sizeof(start)) != NULL : path_of(directory, start);
        if (!known)
            return NULL;
    }
    int length = snprintf(path, PATH_MAX, "%s%s%s", start, *start ? "/" : "", relative);
    return length < PATH_MAX ? name_in(path) : NULL;
}

static const char *shadow_of(const char *name, char path[PATH_MAX])
{
    must(snprintf(path, PATH_MAX, "%s/%s", to, name) < PATH_MAX, "path", name);
    return path;
}

/* Two that sync the same file must not end in the other order. The lock ends with its descriptor. */
static int lock(void)
{
    char path[PATH_MAX];
    int fd = open(shadow_of(".lock", path), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    must(fd >= 0, "open", path);
    (void)fchmod(fd, 0666); /* whoever made it, root or the server's user */
    int rv;
    while ((rv = flock(fd, LOCK_EX)) != 0 && errno == EINTR) {
    }
    must(rv == 0, "flock", path);
    return fd;
}

/*
 * Not by a new descriptor, where that can be had otherwise: to close it would take away all POSIX locks that this
 * process has on the file, and SQLite has some.
 */
static int readable(int fd)
{
    char path[64];
    if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY)
        return fd;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int other = open(path, O_RDONLY | O_CLOEXEC);
    must(other >= 0, "open", path);
    return other;
}

static void copy(int fd, const char *path)
{
    struct stat facts;
    off_t offset = 0;
    int in = readable(fd);
    int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(out >= 0 && fstat(in, &facts) == 0, "open", path);
    while (offset < facts.st_size) {
        ssize_t n = sendfile(out, in, &offset, (size_t)(facts.st_size - offset));
        must(n >= 0 || errno == EINTR, "sendfile", path);
        if (n == 0)
            break; /* it was truncated meanwhile */
    }
    must(fchmod(out, facts.st_mode & 07777) == 0 && close(out) == 0, "close", path);
    if (in != fd)
        close(in);
}

static int sync_file(int fd, long number)
{
    char path[PATH_MAX], temporary[PATH_MAX], final[PATH_MAX], own[64];
    const char *name = from && path_of(fd, path) ? name_in(path) : NULL;
    if (!name || strstr(name, " (deleted)"))
        return (int)syscall(number, fd);
    int guard = lock();
    snprintf(own, sizeof(own), ".%ld", (long)syscall(SYS_gettid));
    copy(fd, shadow_of(own, temporary));
    int rv = (int)syscall(number, fd), code = errno;
    if (rv == 0)
        must(syscall(SYS_renameat2, AT_FDCWD, temporary, AT_FDCWD, shadow_of(name, final), 0) == 0, "rename", final);
    else
        syscall(SYS_unlinkat, AT_FDCWD, temporary, 0);
    close(guard);
    errno = code;
    return rv;
}

static int remove_at(int directory, const char *relative, int flags)
{
    char path[PATH_MAX], shadow[PATH_MAX];
    const char *name = flags & AT_REMOVEDIR ? NULL : name_at(directory, relative, path);
    if (!name)
        return (int)syscall(SYS_unlinkat, directory, relative, flags);
    int guard = lock();
    int rv = (int)syscall(SYS_unlinkat, directory, relative, flags), code = errno;
    if (rv == 0)
        must(syscall(SYS_unlinkat, AT_FDCWD, shadow_of(name, shadow), 0) == 0 || errno == ENOENT, "unlink", shadow);
    close(guard);
    errno = code;
    return rv;
}

/* A name for a name. What was never synced has no copy, and the new name none either then. */
static int move_at(long number, int old_directory, const char *old, int new_directory, const char *new, int flags)
{
    char path[2][PATH_MAX], shadow[2][PATH_MAX];
    const char *old_name = name_at(old_directory, old, path[0]), *new_name = name_at(new_directory, new, path[1]);
    if (!old_name && !new_name)
        return (int)syscall(number, old_directory, old, new_directory, new, flags);
    int guard = lock();
    int rv = (int)syscall(number, old_directory, old, new_directory, new, flags), code = errno;
    if (rv == 0 && new_name) {
        must(syscall(SYS_unlinkat, AT_FDCWD, shadow_of(new_name, shadow[1]), 0) == 0 || errno == ENOENT, "unlink",
             shadow[1]);
        must(!old_name || syscall(number, AT_FDCWD, shadow_of(old_name, shadow[0]), AT_FDCWD, shadow[1], 0) == 0 ||
                 errno == ENOENT,
             "rename or link", shadow[1]);
    } else if (rv == 0 && number == SYS_renameat2) {
        must(syscall(SYS_unlinkat, AT_FDCWD, shadow_of(old_name, shadow[0]), 0) == 0 || errno == ENOENT, "unlink",
             shadow[0]);
    }
    close(guard);
    errno = code;
    return rv;
}

int fsync(int fd)
{
    return sync_file(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return sync_file(fd, SYS_fdatasync);
}

int unlink(const char *path)
{
    return remove_at(AT_FDCWD, path, 0);
}

int unlinkat(int directory, const char *path, int flags)
{
    return remove_at(directory, path, flags);
}

int rename(const char *old, const char *new)
{
    return move_at(SYS_renameat2, AT_FDCWD, old, AT_FDCWD, new, 0);
}

int renameat(int old_directory, const char *old, int new_directory, const char *new)
{
    return move_at(SYS_renameat2, old_directory, old, new_directory, new, 0);
}

int link(const char *old, const char *new)
{
    return move_at(SYS_linkat, AT_FDCWD, old, AT_FDCWD, new, 0);
}

int linkat(int old_directory, const char *old, int new_directory, const char *new, int flags)
{
    return move_at(SYS_linkat, old_directory, old, new_directory, new, flags);
}
