/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_time.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static apr_pool_t *pool;
static char folder[] = "/tmp/iscep-secret-XXXXXX";
static const char *path; /* of the file most tests use */

static void write_file(const char *file, const char *data, size_t len, mode_t mode)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    close(fd);
    assert_int_equal(chmod(file, mode), 0);
}

static void write_text(const char *text)
{
    write_file(path, text, strlen(text), 0600);
}

static secret_source_t *make(const char *specification)
{
    secret_source_t *source = NULL;
    const char *message = NULL;

    if (secret_source_make(&source, specification, pool, &message) != APR_SUCCESS)
        fail_msg("%s: %s", specification, message ? message : "no message");
    assert_null(message);
    return source;
}

static void assert_refused(const char *specification, const char *words)
{
    secret_source_t *source = NULL;
    const char *message = NULL;

    if (secret_source_make(&source, specification, pool, &message) == APR_SUCCESS)
        fail_msg("%.60s is accepted", specification);
    assert_null(source);
    assert_non_null(message);
    if (!strstr(message, words))
        fail_msg("message '%s' lacks '%s'", message, words);
}

static void assert_reads(secret_source_t *source, const char *expected)
{
    const secret_t *secret = secret_source_read(source, pool);

    assert_string_equal(secret_reveal(secret), expected);
    assert_int_equal(secret_length(secret), strlen(expected));
}

static void secret_holds_and_hides(void **state)
{
    char text[] = "pass\0word";
    secret_t *secret = secret_make(pool, text, 9);

    (void)state;
    memset(text, 'x', sizeof(text));
    assert_int_equal(secret_length(secret), 9);
    assert_memory_equal(secret_reveal(secret), "pass\0word", 10);
    assert_string_equal(secret_print(secret), "***");
    assert_string_equal(secret_reveal(secret_make(pool, NULL, 0)), "");
}

static apr_status_t look_again(void *data)
{
    const char **seen = data;

    *seen = strncmp(*seen, "correct horse", 13) == 0 ? "still there" : "gone";
    return APR_SUCCESS;
}

/* A cleanup registered earlier runs later, while the pool's memory is still there. */
static void secret_is_cleansed_with_its_pool(void **state)
{
    apr_pool_t *own = NULL;
    const char *seen;

    (void)state;
    assert_int_equal(apr_pool_create(&own, NULL), APR_SUCCESS);
    apr_pool_cleanup_register(own, &seen, look_again, apr_pool_cleanup_null);
    seen = secret_reveal(secret_make(own, "correct horse", 13));
    apr_pool_destroy(own);
    assert_string_equal(seen, "gone");
}

static void literal_is_told_from_sources(void **state)
{
    (void)state;
    assert_true(secret_is_literal("a key"));
    assert_true(secret_is_literal("files:x"));
    assert_true(secret_is_literal(""));
    assert_false(secret_is_literal("file:/x"));
    assert_false(secret_is_literal("exec:/x"));
    assert_false(secret_is_literal("env:X"));
}

static void literal_outlives_its_specification(void **state)
{
    char specification[] = "my: key";
    secret_source_t *source = make(specification);

    (void)state;
    memset(specification, '*', sizeof(specification) - 1);
    assert_reads(source, "my: key");
    assert_refused("", "is empty");
}

static void environment_gives_a_secret(void **state)
{
    (void)state;
    setenv("ISCEP_TEST_SECRET", "from env", 1);
    assert_reads(make("env:ISCEP_TEST_SECRET"), "from env");
    setenv("ISCEP_TEST_SECRET", "", 1);
    assert_refused("env:ISCEP_TEST_SECRET", "ISCEP_TEST_SECRET is empty");
    unsetenv("ISCEP_TEST_SECRET");
    assert_refused("env:ISCEP_TEST_SECRET", "\"ISCEP_TEST_SECRET\"");
    assert_refused("env:", "no variable");
}

static void file_contents(void **state)
{
    static const struct {
        const char *data;
        size_t len;
        const char *value; /* NULL: refused */
    } rows[] = {
        {"key", 3, "key"},  {"key\n", 4, "key"}, {"key\r\n", 5, "key"}, {" key \n", 6, " key "},
        {"", 0, NULL},      {"\n", 1, NULL},     {"\r\n", 2, NULL},     {"a\nb", 3, NULL},
        {"a\n\n", 3, NULL}, {"a\rb", 3, NULL},   {"a\0b", 3, NULL},     {"\0\0\0\0", 4, NULL},
        {"\xef\xbb\xbfkey\n", 7, NULL},
    };
    const char *specification = apr_pstrcat(pool, "file:", path, NULL);
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        write_file(path, rows[i].data, rows[i].len, 0640);
        if (rows[i].value)
            assert_reads(make(specification), rows[i].value);
        else
            assert_refused(specification, path);
    }
}

static void file_size_is_limited(void **state)
{
    static char much[65537];
    const char *specification = apr_pstrcat(pool, "file:", path, NULL);

    (void)state;
    memset(much, 'k', sizeof(much));
    write_file(path, much, 65537, 0600);
    assert_refused(specification, "longer than 64 KiB");
    write_file(path, much, 65536, 0600);
    assert_int_equal(secret_length(secret_source_read(make(specification), pool)), 65536);
}

static void file_that_is_none(void **state)
{
    const char *pipe = apr_pstrcat(pool, folder, "/pipe", NULL);

    (void)state;
    assert_refused("file:/nonexistent/key", "/nonexistent/key cannot be read");
    assert_refused("file:relative", "absolute path");
    assert_refused("file:", "absolute path");
    assert_refused(apr_pstrcat(pool, "file:", folder, NULL), "not a regular file");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_refused(apr_pstrcat(pool, "file:", pipe, NULL), "not a regular file");
    unlink(pipe);
}

static void modes_are_checked(void **state)
{
    static const struct {
        mode_t mode;
        bool directory;
        const char *words; /* NULL: safe */
    } rows[] = {
        {0600, false, NULL},          {0400, false, NULL},          {0640, false, NULL},
        {0440, false, NULL},          {0644, false, "chmod o-rwx"}, {0602, false, "chmod o-rwx"},
        {0601, false, "chmod o-rwx"}, {0660, false, "chmod g-w"},   {0666, false, "chmod g-w,o-rwx"},
        {0700, true, NULL},           {0750, true, NULL},           {0755, true, "chmod o-rwx"},
        {0701, true, "chmod o-rwx"},  {0770, true, "chmod g-w"},    {01777, true, "chmod g-w,o-rwx"},
    };
    const char *directory = apr_pstrcat(pool, folder, "/dir", NULL);
    size_t i;

    (void)state;
    write_text("x");
    assert_int_equal(mkdir(directory, 0700), 0);
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *subject = rows[i].directory ? directory : path, *message = NULL;
        apr_status_t rv;

        chmod(subject, rows[i].mode);
        rv = secret_path_check(subject, rows[i].directory, pool, &message);
        if ((rv == APR_SUCCESS) != (rows[i].words == NULL) || (message == NULL) != (rows[i].words == NULL))
            fail_msg("mode %o gives %d: %s", rows[i].mode, rv, message);
        if (message && (!strstr(message, rows[i].words) || !strstr(message, subject)))
            fail_msg("mode %o: message '%s'", rows[i].mode, message);
    }
    rmdir(directory);
}

static void kinds_are_checked(void **state)
{
    const char *message = NULL;

    (void)state;
    write_text("x");
    assert_true(APR_STATUS_IS_ENOENT(secret_path_check("/nonexistent", false, pool, &message)));
    assert_non_null(strstr(message, "/nonexistent"));
    assert_int_not_equal(secret_path_check(path, true, pool, &message), APR_SUCCESS);
    assert_non_null(strstr(message, "not a directory"));
    assert_int_not_equal(secret_path_check(folder, false, pool, &message), APR_SUCCESS);
    assert_non_null(strstr(message, "not a regular file"));
}

/* The child gives up root; its exit code says what it found. */
static int check_as_nobody(uid_t owner, uid_t self)
{
    int status = 0;
    pid_t child;

    assert_int_equal(chown(path, owner, (gid_t)-1), 0);
    child = fork();
    if (child == 0) {
        const char *message = NULL;
        apr_status_t rv;

        if (seteuid(self) != 0)
            _exit(9);
        rv = secret_path_check(path, false, pool, &message);
        _exit(rv == APR_SUCCESS ? 0 : message && strstr(message, "chown") ? 1 : 2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static void owner_is_checked(void **state)
{
    const char *message = NULL;

    (void)state;
    if (geteuid() != 0) {
        print_message("SKIP owner_is_checked: only root can give a file away\n");
        skip();
    }
    write_text("x");
    assert_int_equal(chmod(folder, 0711), 0);
    assert_int_equal(check_as_nobody(0, 65534), 0);
    assert_int_equal(check_as_nobody(65534, 65534), 0);
    assert_int_equal(check_as_nobody(1234, 65534), 1);
    assert_int_equal(chown(path, 1234, (gid_t)-1), 0);
    assert_int_equal(secret_path_check(path, false, pool, &message), APR_SUCCESS);
    secret_server_user(65534);
    assert_int_equal(check_as_nobody(0, 0), 0);
    assert_int_equal(check_as_nobody(65534, 0), 0);
    assert_int_equal(check_as_nobody(1234, 0), 1);
    secret_server_user(1234);
    assert_int_equal(check_as_nobody(1234, 0), 0);
    assert_int_equal(chmod(folder, 0700), 0);
}

static void changed_file_is_read_again(void **state)
{
    secret_source_t *source;
    const secret_t *before;
    const char *other = apr_pstrcat(pool, folder, "/new", NULL);

    (void)state;
    write_text("first\n");
    source = make(apr_pstrcat(pool, "file:", path, NULL));
    before = secret_source_read(source, pool);
    write_text("the second\n");
    assert_reads(source, "the second");
    assert_string_equal(secret_reveal(before), "first");
    /* Exchanged as a careful administrator does it. */
    write_file(other, "the third!\n", 11, 0600);
    assert_int_equal(rename(other, path), 0);
    assert_reads(source, "the third!");
}

static void bad_change_keeps_the_old_value(void **state)
{
    secret_source_t *source;

    (void)state;
    write_text("good\n");
    source = make(apr_pstrcat(pool, "file:", path, NULL));
    write_text("");
    assert_reads(source, "good");
    write_file(path, "ab\0\0", 4, 0600);
    assert_reads(source, "good");
    write_text("one\ntwo\n");
    assert_reads(source, "good");
    write_file(path, "open to all\n", 12, 0644);
    assert_reads(source, "good");
    chmod(path, 0600);
    assert_reads(source, "open to all");
    unlink(path);
    assert_reads(source, "open to all");
    write_text("back\n");
    assert_reads(source, "back");
}

static const char *script(const char *name, const char *text)
{
    const char *file = apr_pstrcat(pool, folder, "/", name, NULL);
    const char *whole = apr_pstrcat(pool, "#!/bin/sh\n", text, "\n", NULL);

    write_file(file, whole, strlen(whole), 0700);
    return file;
}

static void command_gives_a_secret(void **state)
{
    (void)state;
    assert_reads(make("exec:/bin/echo  one two "), "one two");
    /* No shell: nothing is expanded, quoted or run behind a semicolon. */
    assert_reads(make("exec:/bin/echo $HOME; \"x\" *"), "$HOME; \"x\" *");
}

static void command_failures(void **state)
{
    (void)state;
    assert_refused("exec:", "absolute path");
    assert_refused("exec:echo x", "absolute path");
    assert_refused("exec:/nonexistent/cmd", "/nonexistent/cmd");
    assert_refused("exec:/bin/false", "exit code 1");
    assert_refused("exec:/bin/true", "is empty");
    assert_refused(apr_pstrcat(pool, "exec:", script("two", "echo a; echo b"), NULL), "more than one line");
    assert_refused(apr_pstrcat(pool, "exec:", script("late", "echo value; exit 3"), NULL), "exit code 3");
    assert_refused(apr_pstrcat(pool, "exec:", script("kill", "kill -9 $$"), NULL), "signal 9");
    assert_refused("exec:/usr/bin/yes", "longer than 64 KiB");
}

static void command_has_a_bare_environment(void **state)
{
    (void)state;
    setenv("ISCEP_TEST_SECRET", "must not be seen", 1);
    assert_reads(make(apr_pstrcat(pool, "exec:", script("env", "echo \"<$ISCEP_TEST_SECRET>${PATH:+path}\""), NULL)),
                 "<>path");
    unsetenv("ISCEP_TEST_SECRET");
}

static void command_has_no_input_and_no_descriptors(void **state)
{
    const char *file = script("fds", "[ -e /proc/$$/fd/77 ] && echo inherited && exit; readlink /proc/$$/fd/0");
    int fd;

    (void)state;
    write_text("x");
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(dup2(fd, 77), 77);
    close(fd);
    assert_int_equal(fcntl(77, F_GETFD), 0);
    assert_reads(make(apr_pstrcat(pool, "exec:", file, NULL)), "/dev/null");
    close(77);
}

static void command_is_stopped_after_ten_seconds(void **state)
{
    const char *mark = apr_pstrcat(pool, folder, "/pid", NULL);
    const char *file = script("slow", apr_pstrcat(pool, "echo $$ > ", mark, "; exec sleep 60", NULL));
    apr_time_t begun = apr_time_now();
    FILE *stream;
    long pid = 0;

    (void)state;
    assert_refused(apr_pstrcat(pool, "exec:", file, NULL), "within 10 seconds");
    assert_in_range(apr_time_sec(apr_time_now() - begun), 9, 13);
    stream = fopen(mark, "r");
    assert_non_null(stream);
    assert_int_equal(fscanf(stream, "%ld", &pid), 1);
    fclose(stream);
    assert_int_equal(kill((pid_t)pid, 0), -1);
    assert_int_equal(errno, ESRCH);
}

static void command_runs_again_when_refused(void **state)
{
    secret_source_t *source;
    const char *file = script("again", apr_pstrcat(pool, "exec cat ", path, NULL));

    (void)state;
    write_text("first\n");
    source = make(apr_pstrcat(pool, "exec:", file, NULL));
    write_text("second\n");
    assert_reads(source, "first");
    assert_true(secret_source_refused(source, APR_USEC_PER_SEC * 5));
    assert_reads(source, "second");
    write_text("third\n");
    assert_false(secret_source_refused(source, APR_USEC_PER_SEC * 5)); /* not within the same minute */
    assert_reads(source, "second");
    clock_shift(apr_time_from_sec(61));
    write_text(""); /* what fails or is empty changes nothing */
    assert_false(secret_source_refused(source, APR_USEC_PER_SEC * 5));
    assert_reads(source, "second");
    clock_shift(apr_time_from_sec(122));
    write_text("second\n");
    assert_false(secret_source_refused(source, APR_USEC_PER_SEC * 5)); /* the same again */
    clock_shift(apr_time_from_sec(183));
    write_text("third\n");
    assert_true(secret_source_refused(source, APR_USEC_PER_SEC * 5));
    assert_reads(source, "third");
}

static void command_that_runs_again_is_stopped(void **state)
{
    const char *file = script("again", apr_pstrcat(pool, "[ -s ", path, " ] && exec sleep 30; echo value", NULL));
    secret_source_t *source;
    apr_time_t begun;

    (void)state;
    write_text("");
    source = make(apr_pstrcat(pool, "exec:", file, NULL));
    write_text("x");
    begun = apr_time_now();
    assert_false(secret_source_refused(source, apr_time_from_msec(300)));
    assert_in_range(apr_time_as_msec(apr_time_now() - begun), 290, 3000);
    assert_reads(source, "value");
}

/* Threads of a server have signals blocked; a command must not inherit that. */
static void command_has_no_signals_blocked(void **state)
{
    const char *file = script("again", "grep SigBlk /proc/self/status | tr -d '\\t'");
    sigset_t all, before;

    (void)state;
    sigfillset(&all);
    assert_int_equal(sigprocmask(SIG_SETMASK, &all, &before), 0);
    assert_reads(make(apr_pstrcat(pool, "exec:", file, NULL)), "SigBlk:0000000000000000");
    assert_int_equal(sigprocmask(SIG_SETMASK, &before, NULL), 0);
}

static void other_sources_have_nothing_newer(void **state)
{
    (void)state;
    write_text("value");
    setenv("ISCEP_TEST_SECRET", "value", 1);
    assert_false(secret_source_refused(make("value"), APR_USEC_PER_SEC));
    assert_false(secret_source_refused(make("env:ISCEP_TEST_SECRET"), APR_USEC_PER_SEC));
    assert_false(secret_source_refused(make(apr_pstrcat(pool, "file:", path, NULL)), APR_USEC_PER_SEC));
    unsetenv("ISCEP_TEST_SECRET");
}

static int begin(void **state)
{
    (void)state;
    if (apr_pool_create(&pool, NULL) != APR_SUCCESS)
        return -1;
    path = apr_pstrcat(pool, folder, "/secret", NULL);
    return 0;
}

static int end(void **state)
{
    static const char *const names[] = {"secret", "new", "two", "late", "kill", "env", "fds", "slow", "pid",
                                        "again"};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(apr_pstrcat(pool, folder, "/", names[i], NULL));
    apr_pool_destroy(pool);
    clock_shift(0);
    return 0;
}

#define SECRET_TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SECRET_TEST(secret_holds_and_hides),
        SECRET_TEST(secret_is_cleansed_with_its_pool),
        SECRET_TEST(literal_is_told_from_sources),
        SECRET_TEST(literal_outlives_its_specification),
        SECRET_TEST(environment_gives_a_secret),
        SECRET_TEST(file_contents),
        SECRET_TEST(file_size_is_limited),
        SECRET_TEST(file_that_is_none),
        SECRET_TEST(modes_are_checked),
        SECRET_TEST(kinds_are_checked),
        SECRET_TEST(owner_is_checked),
        SECRET_TEST(changed_file_is_read_again),
        SECRET_TEST(bad_change_keeps_the_old_value),
        SECRET_TEST(command_gives_a_secret),
        SECRET_TEST(command_failures),
        SECRET_TEST(command_has_a_bare_environment),
        SECRET_TEST(command_has_no_input_and_no_descriptors),
        SECRET_TEST(command_is_stopped_after_ten_seconds),
        SECRET_TEST(command_runs_again_when_refused),
        SECRET_TEST(command_that_runs_again_is_stopped),
        SECRET_TEST(command_has_no_signals_blocked),
        SECRET_TEST(other_sources_have_nothing_newer),
    };
    int failed;

    if (!mkdtemp(folder))
        return 1;
    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    if (rmdir(folder) != 0)
        return 1;
    return failed;
}
