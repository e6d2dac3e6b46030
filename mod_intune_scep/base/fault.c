/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"

#ifdef ISCEP_FAULT_POINTS
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void fault_point(const char *name)
{
    char path[PATH_MAX];
    const char *directory = getenv("ISCEP_FAULT_DIR");
    if (directory && snprintf(path, sizeof(path), "%s/%s", directory, name) < (int)sizeof(path) && !unlink(path)) {
        kill(getpid(), SIGKILL);
    }
}
#else
/* ISO C wants something in every file. */
typedef int fault_points_are_off_t;
#endif
