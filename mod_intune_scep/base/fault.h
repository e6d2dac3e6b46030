/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Points at which a test lets the process die, as by a power cut. Only a build that is configured with
 * --enable-fault-points has them; elsewhere they are nothing.
 *
 * The process ends by SIGKILL at the point `name` where the directory that the environment variable ISCEP_FAULT_DIR names
 * holds a file of that name; the file is removed first, so that it hits one process only.
 */
#ifndef ISCEP_BASE_FAULT_H
#define ISCEP_BASE_FAULT_H

#ifdef ISCEP_FAULT_POINTS
void fault_point(const char *name);
#else
#define fault_point(name) ((void)(name))
#endif

#endif
