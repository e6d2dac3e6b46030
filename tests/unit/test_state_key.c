/* SPDX-License-Identifier: Apache-2.0 */
#include "base/state_key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 8, ROUNDS = 20 };

static apr_pool_t *pool;
static char folder[32];
static const char *path;

static int begin(void **state)
{
    (void)state;
    strncpy(folder, "/tmp/iscep-state-XXXXXX", sizeof(folder) - 1);
    if (apr_pool_create(&pool, NULL) != APR_SUCCESS || !mkdtemp(folder))
        return -1;
    path = apr_pstrcat(pool, folder, "/state.key", NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    unlink(path);
    apr_pool_destroy(pool);
    return rmdir(folder); /* nothing but the key was left in it */
}

static void write_file(const char *text, mode_t mode)
{
    int fd;

    unlink(path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    assert_int_equal(chmod(path, mode), 0);
}

static const char *read_file(void)
{
    char *text = apr_pcalloc(pool, 200);
    int fd = open(path, O_RDONLY);

    assert_true(fd >= 0);
    assert_true(read(fd, text, 199) >= 0);
    close(fd);
    return text;
}

static apr_status_t from_directory(state_key_t **key, const char **message)
{
    return state_key_from_directory(key, folder, geteuid(), getegid(), pool, message);
}

static void derive(const state_key_t *key, unsigned char *derived)
{
    assert_int_equal(state_key_derive(key, "purpose 1", derived), APR_SUCCESS);
}

static void ok_derivation_is_hkdf(void **state)
{
    /* by another implementation: HKDF-SHA256, no salt, this key, info "purpose 1" */
    static const char expected[] = "c1c2c5f253d6788dc1968e7be9c831c1d613164fd45f1c308a092a2a539054fd";
    unsigned char derived[STATE_KEY_DERIVED], other[STATE_KEY_DERIVED];
    char hex[2 * STATE_KEY_DERIVED + 1];
    state_key_t *key = NULL;
    const char *message = NULL;
    int i;

    (void)state;
    assert_int_equal(state_key_from_source(&key, "0123456789abcdef0123456789abcdef", pool, &message), APR_SUCCESS);
    derive(key, derived);
    for (i = 0; i < STATE_KEY_DERIVED; i++)
        apr_snprintf(hex + 2 * i, 3, "%02x", derived[i]);
    assert_string_equal(hex, expected);
    assert_int_equal(state_key_derive(key, "purpose 2", other), APR_SUCCESS);
    assert_memory_not_equal(derived, other, sizeof(derived));
}

static void fail_short_key(void **state)
{
    state_key_t *key = NULL;
    const char *message = NULL;

    (void)state;
    assert_int_equal(state_key_from_source(&key, "0123456789abcdef0123456789abcde", pool, &message), APR_EINVAL);
    assert_non_null(strstr(message, "31 bytes"));
    assert_null(strstr(message, "0123"));
    assert_int_not_equal(state_key_from_source(&key, "file:/nowhere/state.key", pool, &message), APR_SUCCESS);
    assert_non_null(strstr(message, "/nowhere/state.key"));
    assert_null(key);
}

static void ok_made_once_and_found_again(void **state)
{
    unsigned char first[STATE_KEY_DERIVED], second[STATE_KEY_DERIVED];
    state_key_t *key = NULL;
    const char *message = NULL, *text;
    struct stat facts;
    mode_t mask = umask(0277);

    (void)state;
    assert_int_equal(from_directory(&key, &message), APR_SUCCESS);
    umask(mask);
    derive(key, first);
    assert_int_equal(stat(path, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0600);
    assert_int_equal(facts.st_nlink, 1);
    text = read_file();
    assert_int_equal(strlen(text), 65);
    assert_int_equal(strspn(text, "0123456789abcdef"), 64);
    assert_int_equal(from_directory(&key, &message), APR_SUCCESS);
    derive(key, second);
    assert_memory_equal(first, second, sizeof(first));
    assert_string_equal(read_file(), text);
    /* the same text, given as the source of another machine's key, is the same key */
    assert_int_equal(state_key_from_source(&key, apr_pstrcat(pool, "file:", path, NULL), pool, &message), APR_SUCCESS);
    derive(key, second);
    assert_memory_equal(first, second, sizeof(first));
    /* and each directory has another */
    unlink(path);
    assert_int_equal(from_directory(&key, &message), APR_SUCCESS);
    derive(key, second);
    assert_memory_not_equal(first, second, sizeof(first));
}

static void one_of_many_makes_it(void)
{
    unsigned char derived[PROCESSES][STATE_KEY_DERIVED];
    int start[2], ends[2], i, status;

    assert_int_equal(pipe(start), 0);
    assert_int_equal(pipe(ends), 0);
    for (i = 0; i < PROCESSES; i++) {
        if (fork() == 0) {
            unsigned char own[STATE_KEY_DERIVED];
            state_key_t *key = NULL;
            const char *message = NULL;
            char go;

            close(start[1]);
            if (read(start[0], &go, 1) == 0 && from_directory(&key, &message) == APR_SUCCESS &&
                state_key_derive(key, "x", own) == APR_SUCCESS && write(ends[1], own, sizeof(own)) == sizeof(own))
                _exit(0);
            _exit(1);
        }
    }
    close(start[1]); /* now all of them run */
    for (i = 0; i < PROCESSES; i++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    for (i = 0; i < PROCESSES; i++) {
        assert_int_equal(read(ends[0], derived[i], STATE_KEY_DERIVED), STATE_KEY_DERIVED);
        assert_memory_equal(derived[i], derived[0], STATE_KEY_DERIVED);
    }
    close(start[0]);
    close(ends[0]);
    close(ends[1]);
}

static void ok_one_of_many_processes_makes_it(void **state)
{
    int round;

    (void)state;
    for (round = 0; round < ROUNDS; round++) {
        one_of_many_makes_it();
        unlink(path);
    }
}

#define DIGITS "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef"

static void key_files(void **state)
{
    static const struct {
        const char *name;
        const char *text;
        mode_t mode;
        const char *words; /* NULL: accepted */
    } rows[] = {
        {"ok/line", DIGITS "\n", 0600, NULL},
        {"ok/no line end", DIGITS, 0400, NULL},
        {"ok/readable by its group", DIGITS "\n", 0640, NULL},
        {"fail/empty", "", 0600, "is empty"},
        {"fail/half written", "0123456789abcdef", 0600, "64 hexadecimal digits"},
        {"fail/longer", DIGITS "0", 0600, "64 hexadecimal digits"},
        {"fail/no digits", "x123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 0600,
         "64 hexadecimal digits"},
        {"fail/two lines", DIGITS "\n" DIGITS "\n", 0600, "more than one line"},
        {"fail/open to others", DIGITS "\n", 0644, "open to others"},
        {"fail/writable by its group", DIGITS "\n", 0660, "writable by its group"},
    };
    apr_size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        state_key_t *key = NULL;
        const char *message = "";
        apr_status_t rv;

        write_file(rows[i].text, rows[i].mode);
        rv = from_directory(&key, &message);
        if ((rv == APR_SUCCESS) != !rows[i].words || (rows[i].words && !strstr(message, rows[i].words)))
            fail_msg("%s: %d %s", rows[i].name, rv, message);
        if (rows[i].words && !strstr(message, path))
            fail_msg("%s: the message does not name the file: %s", rows[i].name, message);
    }
}

static void fail_what_is_not_a_file(void **state)
{
    state_key_t *key = NULL;
    const char *message = "", *target = apr_pstrcat(pool, folder, "/elsewhere", NULL);

    (void)state;
    write_file(DIGITS "\n", 0600);
    assert_int_equal(rename(path, target), 0);
    assert_int_equal(symlink(target, path), 0);
    assert_int_equal(from_directory(&key, &message), APR_EINVAL);
    assert_non_null(strstr(message, "not a regular file"));
    unlink(target);
    /* a dangling one is not written through either */
    assert_int_not_equal(from_directory(&key, &message), APR_SUCCESS);
    assert_int_not_equal(access(target, F_OK), 0);
    unlink(path);
    assert_int_not_equal(state_key_from_directory(&key, "/nowhere/at-all", 0, 0, pool, &message), APR_SUCCESS);
    assert_non_null(strstr(message, "/nowhere/at-all"));
}

static void fail_somebody_elses_file(void **state)
{
    state_key_t *key = NULL;
    const char *message = "";

    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(state_key_from_directory(&key, folder, 12345, 12345, pool, &message), APR_SUCCESS);
    assert_int_equal(state_key_from_directory(&key, folder, 54321, 54321, pool, &message), APR_EACCES);
    assert_non_null(strstr(message, "owned by user 12345"));
}

#define KEY_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        KEY_TEST(ok_derivation_is_hkdf),   KEY_TEST(fail_short_key),
        KEY_TEST(ok_made_once_and_found_again), KEY_TEST(ok_one_of_many_processes_makes_it),
        KEY_TEST(key_files),               KEY_TEST(fail_what_is_not_a_file),
        KEY_TEST(fail_somebody_elses_file),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests_name("state_key", tests, NULL, NULL);
    apr_terminate();
    return failed;
}
