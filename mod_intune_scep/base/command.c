/* SPDX-License-Identifier: Apache-2.0 */
#include "base/command.h"

#include "base/text.h"

#include <apr_strings.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COMMAND_SHOWN = 512, DESCRIPTORS_MAX = 65536, FIRST_FREE = 3, NO_EXEC = 127, GROUPS_MOST = 64 };
static const apr_interval_time_t WAIT_STEP = 10 * 1000;

/* Set while the server starts, with one thread. */
static struct {
    bool is_known;
    uid_t user;
    gid_t group;
    gid_t groups[GROUPS_MOST];
    int count;
} server;

void command_server_user(uid_t user, gid_t group, const char *name)
{
    server.is_known = user != (uid_t)-1;
    server.user = user;
    server.group = server.groups[0] = group;
    server.count = GROUPS_MOST;
    if (!name || getgrouplist(name, group, server.groups, &server.count) < 0) {
        server.count = 1;
    }
}

static bool is_for_server(void)
{
    return server.is_known && geteuid() == 0;
}

/* The child's side, made before the fork: all descriptors are above the standard three and are closed by an exec. */
typedef struct child_t {
    char **words;
    int input, output;
    int report; /* errno, where it does not come to the exec */
} child_t;

typedef struct run_t {
    pid_t pid;
    int output; /* its standard output, or -1 */
    apr_time_t deadline;
} run_t;

static void close_one(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* A descriptor that the child's dup2() would overwrite moves out of the way. */
static int lifted(int fd)
{
    if (fd < 0 || fd >= FIRST_FREE) {
        return fd;
    }
    int higher = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FREE);
    int code = errno;
    close(fd);
    errno = code;
    return higher;
}

static bool make_pipe(int *reader, int *writer)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) {
        return false;
    }
    *reader = lifted(ends[0]);
    *writer = lifted(ends[1]);
    return *reader >= 0 && *writer >= 0;
}

/* A file in memory, so that nobody has to feed a pipe while the output is read, and no SIGPIPE comes. */
static int make_input(bytes_t input)
{
    if (!input.len) {
        return lifted(open("/dev/null", O_RDONLY | O_CLOEXEC));
    }
    int fd = lifted(memfd_create("input", MFD_CLOEXEC));
    apr_size_t done = 0;
    while (fd >= 0 && done < input.len) {
        ssize_t wrote = write(fd, input.data + done, input.len - done);
        if (wrote < 0 && errno != EINTR) {
            close_one(&fd);
        }
        done += wrote > 0 ? (apr_size_t)wrote : 0;
    }
    if (fd >= 0 && lseek(fd, 0, SEEK_SET)) {
        close_one(&fd);
    }
    return fd;
}

/* From here on to the exec: async-signal-safe calls only. */

static void close_above(int first)
{
#ifdef SYS_close_range
    if (!syscall(SYS_close_range, (unsigned)first, ~0u, 0u)) {
        return;
    }
#endif
    long limit = sysconf(_SC_OPEN_MAX);
    if (limit < 0 || limit > DESCRIPTORS_MAX) {
        limit = DESCRIPTORS_MAX;
    }
    for (int fd = first; fd < (int)limit; fd++) {
        close(fd);
    }
}

static bool become_server(void)
{
    return !is_for_server() ||
           (!setgroups((size_t)server.count, server.groups) && !setgid(server.group) && !setuid(server.user));
}

/* Handlers of the server are gone with the exec, but what it ignores would stay ignored. */
static void reset_signals(void)
{
    struct sigaction plain;
    sigset_t none;
    memset(&plain, 0, sizeof(plain));
    plain.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; number++) {
        sigaction(number, &plain, NULL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

__attribute__((noreturn)) static void child_main(const child_t *child)
{
    static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    static char *environment[] = {path, NULL};
    int report = child->report;
    int code;
    setpgid(0, 0);
    reset_signals();
    if (dup2(child->input, STDIN_FILENO) >= 0 && dup2(child->output, STDOUT_FILENO) >= 0 &&
        (report == FIRST_FREE || dup3(report, FIRST_FREE, O_CLOEXEC) >= 0)) {
        report = FIRST_FREE;
        close_above(FIRST_FREE + 1);
        if (become_server()) {
            execve(child->words[0], child->words, environment);
        }
    }
    code = errno;
    ssize_t told = write(report, &code, sizeof(code));
    _exit(told > 0 ? NO_EXEC : NO_EXEC + 1);
}

/* With all signals blocked, so that no handler of the server ever runs in the child. */
static pid_t child_fork(const child_t *child)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    int code = errno;
    if (pid == 0) {
        child_main(child);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = code;
    return pid;
}

/* 0, or why there was no exec. */
static int exec_fault(int report)
{
    int code = 0;
    ssize_t got;
    do {
        got = read(report, &code, sizeof(code));
    } while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof(code) ? code : 0;
}

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

static char **words_of(const command_t *command, apr_pool_t *pool)
{
    char **words = apr_pcalloc(pool, (strlen(command->text) / 2 + 3) * sizeof(*words));
    char *rest = apr_pstrdup(pool, command->text);
    char *word = NULL;
    int count = 0;
    while ((word = strsep(&rest, " "))) {
        if (*word) {
            words[count++] = word;
        }
    }
    words[count] = command->last_argument ? apr_pstrdup(pool, command->last_argument) : NULL;
    return words;
}

static apr_status_t start(run_t *run, const command_t *command, apr_pool_t *pool)
{
    child_t child = {.words = words_of(command, pool), .input = -1, .output = -1, .report = -1};
    int report = -1;
    int code = 0;
    if (!child.words[0]) {
        return APR_EINVAL;
    }
    child.input = make_input(command->input);
    bool good = child.input >= 0 && make_pipe(&report, &child.report);
    if (good && command->output) {
        good = make_pipe(&run->output, &child.output);
    } else if (good) {
        child.output = lifted(open("/dev/null", O_WRONLY | O_CLOEXEC));
        good = child.output >= 0;
    }
    if (good) {
        run->pid = child_fork(&child);
        good = run->pid > 0;
    }
    code = good ? 0 : errno;
    close_one(&child.input);
    close_one(&child.output);
    close_one(&child.report);
    if (good) {
        /* Both sides do it: whichever comes first, the group is there before anybody would kill it. */
        setpgid(run->pid, run->pid);
        code = exec_fault(report);
        if (code) {
            reap(run->pid);
        }
    }
    close_one(&report);
    return code ? APR_FROM_OS_ERROR(code) : APR_SUCCESS;
}

/* Until its end, the limit of time or of size. */
static apr_status_t output_read(const run_t *run, command_t *command)
{
    for (;;) {
        char one_more;
        bool full = command->len == command->room;
        apr_interval_time_t rest = run->deadline - apr_time_now();
        struct pollfd wait = {.fd = run->output, .events = POLLIN};
        if (rest <= 0) {
            return APR_TIMEUP;
        }
        int ready = poll(&wait, 1, (int)apr_time_as_msec(rest) + 1);
        if (ready == 0 || (ready < 0 && errno == EINTR)) {
            continue;
        }
        ssize_t got = ready < 0 ? -1
                                : read(run->output, full ? &one_more : command->output + command->len,
                                       full ? 1 : command->room - command->len);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got ? APR_FROM_OS_ERROR(errno) : APR_SUCCESS;
        }
        if (full) {
            return APR_INCOMPLETE;
        }
        command->len += (apr_size_t)got;
    }
}

/* It is reaped last, so that its number cannot be another process's when the group is killed. */
static apr_status_t finish(const run_t *run, apr_status_t rv, int *status)
{
    pid_t ended = 0;
    while (!rv && ended != run->pid) {
        ended = waitpid(run->pid, status, WNOHANG);
        if (ended < 0 && errno != EINTR) {
            return APR_FROM_OS_ERROR(errno);
        }
        if (ended != run->pid && apr_time_now() >= run->deadline) {
            rv = APR_TIMEUP;
        } else if (ended != run->pid) {
            apr_sleep(WAIT_STEP);
        }
    }
    if (rv) {
        kill(-run->pid, SIGKILL);
        reap(run->pid);
    }
    return rv;
}

static const char *limit_text(apr_interval_time_t limit, apr_pool_t *pool)
{
    return limit >= APR_USEC_PER_SEC ? apr_psprintf(pool, "%d seconds", (int)apr_time_sec(limit))
                                     : apr_psprintf(pool, "%d milliseconds", (int)apr_time_as_msec(limit));
}

static const char *by_whom(void)
{
    return is_for_server() ? " by the server's user" : "";
}

static const char *complaint(const command_t *command, const char *shown, apr_status_t rv, apr_pool_t *pool)
{
    char reason[128];
    if (APR_STATUS_IS_TIMEUP(rv)) {
        return apr_psprintf(pool, "the command %s did not end within %s", shown, limit_text(command->limit, pool));
    }
    if (APR_STATUS_IS_INCOMPLETE(rv)) {
        return apr_psprintf(pool, "the command %s wrote more than %" APR_SIZE_T_FMT " bytes", shown, command->room);
    }
    return apr_psprintf(pool, "the command %s could not be run%s: %s", shown, by_whom(),
                        apr_strerror(rv, reason, sizeof(reason)));
}

const char *command_shown(const char *text, apr_pool_t *pool)
{
    const char *blank = strchr(text, ' ');
    return blank ? apr_pstrcat(pool, apr_pstrmemdup(pool, text, (apr_size_t)(blank - text)), " ...", NULL) : text;
}

apr_status_t command_run(command_t *command, apr_pool_t *pool, const char **message)
{
    const char *shown = text_escape(pool, command_shown(command->text, pool), COMMAND_SHOWN);
    run_t run = {.pid = -1, .output = -1, .deadline = apr_time_now() + command->limit};
    apr_pool_t *scratch = NULL;
    int status = 0;
    command->len = 0;
    if (command->text[0] != '/') {
        *message = apr_psprintf(pool, "the command %s does not begin with an absolute path", shown);
        return APR_EINVAL;
    }
    apr_status_t rv = apr_pool_create(&scratch, pool);
    if (!rv) {
        rv = start(&run, command, scratch);
        apr_pool_destroy(scratch);
    }
    if (!rv) {
        rv = run.output >= 0 ? output_read(&run, command) : APR_SUCCESS;
        close_one(&run.output);
        rv = finish(&run, rv, &status);
    }
    close_one(&run.output);
    if (rv) {
        *message = complaint(command, shown, rv, pool);
        return rv;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        *message =
            apr_psprintf(pool, "the command %s%s failed with %s %d", shown, *by_whom() ? ", run by the server's user," : "",
                         WIFEXITED(status) ? "exit code" : "signal",
                         WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
        return APR_EGENERAL;
    }
    return APR_SUCCESS;
}
