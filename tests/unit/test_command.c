/* SPDX-License-Identifier: Apache-2.0 */
#include "base/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROOM = 4096, THREADS = 8, ROUNDS = 25, FAR_DESCRIPTOR = 500 };

static apr_pool_t *pool;
static char folder[] = "/tmp/iscep-command-XXXXXX";
static char output[ROOM + 1];
static const char *message;

static const char *script(const char *text)
{
    const char *file = apr_pstrcat(pool, folder, "/script", NULL);
    const char *whole = apr_pstrcat(pool, "#!/bin/sh\n", text, "\n", NULL);
    int fd;

    unlink(file);
    fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, whole, strlen(whole)), (ssize_t)strlen(whole));
    close(fd);
    return file;
}

static apr_status_t run(const char *text, const char *last, const char *input)
{
    command_t command = {.text = text,
                         .last_argument = last,
                         .input = bytes_of_text(input),
                         .output = output,
                         .room = ROOM,
                         .limit = apr_time_from_sec(20)};
    apr_status_t rv;

    message = NULL;
    rv = command_run(&command, pool, &message);
    assert_true((rv == APR_SUCCESS) == (message == NULL));
    output[command.len] = '\0';
    return rv;
}

static void assert_gives(const char *text, const char *last, const char *input, const char *expected)
{
    if (run(text, last, input) != APR_SUCCESS)
        fail_msg("%s: %s", text, message);
    assert_string_equal(output, expected);
}

static void assert_fails(const char *text, const char *words)
{
    assert_int_not_equal(run(text, NULL, ""), APR_SUCCESS);
    if (!strstr(message, words))
        fail_msg("'%s' lacks '%s'", message, words);
}

/* No child of ours is left, dead or alive. */
static void assert_no_children(void)
{
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void ok_words(void **state)
{
    (void)state;
    assert_gives("/bin/echo  one   two ", NULL, "", "one two\n");
    assert_gives("/bin/echo $HOME; \"x\" * `id`", NULL, "", "$HOME; \"x\" * `id`\n");
    assert_gives("/bin/echo -n", "three  four\n\"'; rm", "", "three  four\n\"'; rm");
    assert_gives("/bin/echo", "", "", "\n");
    assert_gives("/bin/true", "any", "", "");
}

static void ok_input(void **state)
{
    char *much = apr_palloc(pool, 1000001);
    command_t command = {.text = "/usr/bin/wc -c", .output = output, .room = ROOM, .limit = apr_time_from_sec(20)};

    (void)state;
    assert_gives("/bin/cat", NULL, "", "");
    assert_gives("/bin/cat", NULL, "a line\nand another", "a line\nand another");
    assert_gives("/bin/cat /dev/stdin", NULL, "opened again", "opened again");
    assert_gives(script("read line && echo \"<$line>\""), NULL, "first\nsecond\n", "<first>\n");
    memset(much, 'x', 1000001);
    command.input = (bytes_t){(const unsigned char *)much, 1000001};
    assert_int_equal(command_run(&command, pool, &message), APR_SUCCESS);
    output[command.len] = '\0';
    assert_string_equal(output, "1000001\n");
    /* Nobody has to read it. */
    command.text = "/bin/true";
    assert_int_equal(command_run(&command, pool, &message), APR_SUCCESS);
}

static void ok_nobody_wants_the_output(void **state)
{
    const char *file = apr_pstrcat(pool, folder, "/out", NULL);
    command_t command = {.text = script("readlink /proc/self/fd/1 > \"$1\"; echo lost"),
                         .last_argument = file,
                         .limit = apr_time_from_sec(20)};

    (void)state;
    assert_int_equal(command_run(&command, pool, &message), APR_SUCCESS);
    assert_gives("/bin/cat", file, "", apr_pstrcat(pool, file, "\n", NULL));
    command.text = script("[ \"$(readlink /proc/$$/fd/1)\" = /dev/null ]");
    assert_int_equal(command_run(&command, pool, &message), APR_SUCCESS);
    unlink(file);
}

static void ok_room_is_enough(void **state)
{
    char expected[11] = "0123456789";
    command_t command = {.text = "/bin/echo -n 0123456789", .output = output, .limit = apr_time_from_sec(20)};

    (void)state;
    command.room = 10;
    assert_int_equal(command_run(&command, pool, &message), APR_SUCCESS);
    assert_int_equal(command.len, 10);
    assert_memory_equal(output, expected, 10);
    command.room = 9;
    assert_true(APR_STATUS_IS_INCOMPLETE(command_run(&command, pool, &message)));
    assert_non_null(strstr(message, "more than 9 bytes"));
    assert_no_children();
    command.text = "/usr/bin/yes";
    command.room = ROOM;
    assert_true(APR_STATUS_IS_INCOMPLETE(command_run(&command, pool, &message)));
    assert_no_children();
}

static void fail_by_itself(void **state)
{
    (void)state;
    assert_fails("", "absolute path");
    assert_fails("echo x", "absolute path");
    assert_fails(" /bin/echo x", "absolute path");
    assert_fails("/nonexistent/cmd x", "/nonexistent/cmd ... could not be run: No such file");
    assert_fails(folder, "Permission denied");
    assert_fails("/bin/false", "exit code 1");
    assert_fails(script("echo some; exit 3"), "exit code 3");
    assert_fails(script("exit 127"), "exit code 127");
    assert_fails(script("kill -9 $$"), "signal 9");
    assert_fails("/nonexistent/\x1b[31m\n", "/nonexistent/\\x1b[31m\\x0a could not");
    assert_no_children();
}

/* The whole group goes: the shell, and what it started and waits for, or does not. */
static void fail_limit_kills_the_group(void **state)
{
    static const char *const scripts[] = {"sleep 61", "sleep 62 & exit 0", "exec 1>&-; sleep 63",
                                          "trap '' TERM HUP INT; sleep 64; sleep 64"};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        command_t command = {.text = script(apr_pstrcat(pool, "echo $$\n", scripts[i], NULL)),
                             .output = output,
                             .room = ROOM,
                             .limit = apr_time_from_msec(400)};
        apr_time_t begun = apr_time_now();
        long pid;
        int tries = 0;

        assert_true(APR_STATUS_IS_TIMEUP(command_run(&command, pool, &message)));
        assert_in_range(apr_time_as_msec(apr_time_now() - begun), 390, 5000);
        assert_non_null(strstr(message, "within 400 milliseconds"));
        output[command.len] = '\0';
        pid = atol(output);
        assert_true(pid > 1);
        /* Grandchildren are init's to reap, which takes a moment. */
        while (kill((pid_t)-pid, 0) == 0 && tries++ < 500)
            apr_sleep(10000);
        assert_int_equal(kill((pid_t)-pid, 0), -1);
        assert_no_children();
    }
}

static void ok_bare_surroundings(void **state)
{
    sigset_t all, before;
    int fd;

    (void)state;
    setenv("ISCEP_TEST_SECRET", "must not be seen", 1);
    assert_gives("/usr/bin/env", NULL, "", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
    unsetenv("ISCEP_TEST_SECRET");
    /* Descriptors without close-on-exec, near and far. */
    fd = open("/dev/zero", O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(dup2(fd, FAR_DESCRIPTOR), FAR_DESCRIPTOR);
    /* The last one is ls's own, of the directory. */
    assert_gives("/bin/ls /proc/self/fd", NULL, "", "0\n1\n2\n3\n");
    close(fd);
    close(FAR_DESCRIPTOR);
    sigfillset(&all);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    assert_int_equal(sigprocmask(SIG_SETMASK, &all, &before), 0);
    assert_gives("/bin/grep ^SigBlk /proc/self/status", NULL, "", "SigBlk:\t0000000000000000\n");
    /* The C library keeps 32 and 33 for itself and lets nobody reset them, wherever they came from. */
    assert_int_equal(run("/bin/sed -n s/^SigIgn:\\s*//p /proc/self/status", NULL, ""), APR_SUCCESS);
    assert_int_equal(strtoull(output, NULL, 16) & ~0x180000000ULL, 0);
    assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &all), 0);
    assert_true(sigismember(&all, SIGTERM));
    assert_int_equal(sigprocmask(SIG_SETMASK, &before, NULL), 0);
    assert_false(sigismember(&before, SIGTERM));
    signal(SIGPIPE, SIG_DFL);
    signal(SIGUSR1, SIG_DFL);
}

/* A process whose standard descriptors are closed gives their numbers to whatever it opens. */
static void ok_without_standard_descriptors(void **state)
{
    int status = 0;
    pid_t child = fork();

    (void)state;
    if (child == 0) {
        close(0);
        close(1);
        _exit(run("/bin/cat", NULL, "through") == APR_SUCCESS && strcmp(output, "through") == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static atomic_int wrong;
static atomic_bool stop;

static void *runner(void *data)
{
    char mine[64];
    int number = *(int *)data, i;
    apr_pool_t *own = NULL;

    if (apr_pool_create(&own, NULL) != APR_SUCCESS)
        wrong++;
    for (i = 0; own && i < ROUNDS; i++) {
        const char *word = apr_psprintf(own, "%d-%d", number, i), *told = NULL;
        command_t command = {.text = "/bin/cat",
                             .input = bytes_of_text(word),
                             .output = mine,
                             .room = sizeof(mine),
                             .limit = apr_time_from_sec(30)};

        if (command_run(&command, own, &told) != APR_SUCCESS || command.len != strlen(word) ||
            memcmp(mine, word, command.len) != 0)
            wrong++;
    }
    if (own)
        apr_pool_destroy(own);
    return NULL;
}

/* Keeps the allocator's locks and the pools busy while others fork. */
static void *allocator(void *data)
{
    (void)data;
    while (!stop) {
        apr_pool_t *own = NULL;

        if (apr_pool_create(&own, NULL) == APR_SUCCESS) {
            apr_palloc(own, 20000);
            apr_pool_destroy(own);
        }
        free(malloc(100000));
    }
    return NULL;
}

static void ok_many_threads(void **state)
{
    pthread_t threads[THREADS], busy;
    int numbers[THREADS], i;

    (void)state;
    assert_int_equal(pthread_create(&busy, NULL, allocator, NULL), 0);
    for (i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, runner, &numbers[i]), 0);
    }
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    stop = true;
    pthread_join(busy, NULL);
    assert_int_equal(wrong, 0);
    assert_no_children();
}

/* However they end, no descriptor stays open here. */
static void ok_nothing_is_left_open(void **state)
{
    int before = open("/dev/null", O_RDONLY | O_CLOEXEC), after;

    (void)state;
    close(before);
    run("/bin/cat", NULL, "x");
    run("/bin/false", NULL, "x");
    run("/nonexistent", NULL, "x");
    run("/usr/bin/yes", NULL, "x");
    after = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(after);
    assert_int_equal(before, after);
}

static int begin(void **state)
{
    (void)state;
    return apr_pool_create(&pool, NULL) == APR_SUCCESS ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    unlink(apr_pstrcat(pool, folder, "/script", NULL));
    apr_pool_destroy(pool);
    return 0;
}

#define COMMAND_TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

static void ok_root_runs_it_as_the_servers_user(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("SKIP ok_root_runs_it_as_the_servers_user: only root can become somebody else\n");
        skip();
    }
    command_server_user(65534, 65533, NULL);
    assert_gives("/usr/bin/id -u", NULL, "", "65534\n");
    assert_gives("/usr/bin/id -G", NULL, "", "65533\n");
    assert_fails("/root", "could not be run by the server's user: ");
    assert_fails("/bin/false", "run by the server's user, failed with exit code 1");
    command_server_user((uid_t)-1, (gid_t)-1, NULL);
    assert_gives("/usr/bin/id -u", NULL, "", "0\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        COMMAND_TEST(ok_words),
        COMMAND_TEST(ok_input),
        COMMAND_TEST(ok_nobody_wants_the_output),
        COMMAND_TEST(ok_room_is_enough),
        COMMAND_TEST(fail_by_itself),
        COMMAND_TEST(fail_limit_kills_the_group),
        COMMAND_TEST(ok_bare_surroundings),
        COMMAND_TEST(ok_without_standard_descriptors),
        COMMAND_TEST(ok_many_threads),
        COMMAND_TEST(ok_nothing_is_left_open),
        COMMAND_TEST(ok_root_runs_it_as_the_servers_user),
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
