/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose turn it is to write, among the processes of a server: who waits is woken at once, where SQLite would look again
 * after some time. It is politeness only. Who does not get his turn in time goes on without it, and SQLite's own locks
 * decide; so do they between those that share no turn, as a command-line tool.
 */
#ifndef ISCEP_STORE_TURN_H
#define ISCEP_STORE_TURN_H

#include <apr_time.h>
#include <stdbool.h>

typedef struct turn_t turn_t;

/**
 * Before the fork, in memory that all children map. It is never given back: a thread may still hold the turn while its
 * process ends. NULL where there is no memory for it.
 */
turn_t *turn_make(void);

/**
 * Waits for the turn, at most for so long; the turn of a thread that was killed falls to the next. Any thread.
 * @param turn NULL: there is none to wait for.
 * @return whether it was got; then, and only then, turn_give() is called, by the same thread.
 */
bool turn_take(turn_t *turn, apr_interval_time_t limit);

void turn_give(turn_t *turn);

#endif
