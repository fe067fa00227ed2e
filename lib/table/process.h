/*
 * The processes attached to a table.
 *
 * For status, and for reap, which has to know who lives. Entries of dead processes are
 * taken over by new ones.
 */
#pragma once

#include "table/table.h"

#include <sys/types.h>

/* This process's entry; all zero: none. */
struct process_self {
	struct tuplebind_process *entry;
};

/*
 * Enters the calling process into the table's list, or finds the entry it had before an
 * exec. When the list is full the process is not in it, and status does not show it. 20 us.
 */
void process_enter(struct table *t, struct process_self *self);

/* Takes the entry out again, at exit. */
void process_leave(struct process_self *self);

/* Notes that some claim may have lost its holder without being given back. */
void process_strayed(struct table *t);

/*
 * The count of such events, after a look for processes that died without a word since the
 * last. At most 64 system calls.
 */
uint64_t process_strays(struct table *t);

/* The count as it is, without a look. One load. */
uint64_t process_strays_told(const struct table *t);

/*
 * Whether the process of an entry lives. An entry of another pid namespace counts as
 * living: from here it cannot be known. One or two system calls and a small file.
 */
bool process_alive(const struct tuplebind_process *entry);

/* A process in one word, for memory that outlives it: its id, above it 32 bits of its start time.
 */
uint64_t process_token(pid_t pid);

/* The token of the calling process, remembered. One system call as a rule. */
uint64_t process_own_token(void);

/* Whether the process of a token lives; 0 does not. Two system calls and a small file. */
bool process_token_alive(uint64_t token);

/*
 * The same, but true for whatever process while some process of another pid namespace is attached:
 * its ids mean nothing here, so a token that seems dead may be its.
 */
bool process_may_live(const struct table *t, uint64_t token);

/* Field 22 of /proc/PID/stat, which with the id names a process for ever; 0: cannot be read. */
uint64_t process_start_time(pid_t pid);
