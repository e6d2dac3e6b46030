/* SPDX-License-Identifier: Apache-2.0 */
/*
 * To be preloaded into a server: counts its calls of fsync() and fdatasync(), in all its processes, and the time they
 * took, in the file that BENCH_SYNCS names: two native 64-bit numbers, calls and nanoseconds.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef struct counts_t {
    atomic_ullong calls, nanoseconds;
} counts_t;

static counts_t own;
static counts_t *counts = &own;
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void set_up(void)
{
    const char *path = getenv("BENCH_SYNCS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (fd >= 0) {
        void *shared = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        if (shared == MAP_FAILED) {
            perror("sync_count");
            abort();
        }
        counts = shared;
        close(fd);
    }
}

static int counted(int (*call)(int), int fd)
{
    struct timespec from, to;
    int rv = 0;

    clock_gettime(CLOCK_MONOTONIC, &from);
    rv = call(fd);
    clock_gettime(CLOCK_MONOTONIC, &to);
    atomic_fetch_add(&counts->calls, 1);
    atomic_fetch_add(&counts->nanoseconds,
                     (unsigned long long)((to.tv_sec - from.tv_sec) * 1000000000LL + to.tv_nsec - from.tv_nsec));
    return rv;
}

int fsync(int fd)
{
    return counted(real_fsync, fd);
}

int fdatasync(int fd)
{
    return counted(real_fdatasync, fd);
}
