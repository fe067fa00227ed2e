/*
 * The processes attached to a table, and the claims they have in flight.
 *
 * A claim is in flight from the moment its bit is set until connect() has returned: in
 * that time the kernel may not know of it yet, however long the process is stopped, so
 * reap leaves it alone while its process lives. Entries of dead processes are taken
 * over by new ones.
 */
#pragma once

#include "table/claim.h"

#include <sys/types.h>

/* This process's entry; all zero: none. */
struct process_self {
	struct tuplebind_process *entry;
};

/*
 * Enters the calling process into the table's list, or finds the entry it had before an
 * exec. Nothing happens when the list is full: reap then has only time to go by. 20 us.
 */
void process_enter(struct table *t, struct process_self *self);

/* Takes the entry out again, at exit. */
void process_leave(struct process_self *self);

/*
 * Notes @c as in flight; returns the place for process_landed(), or NULL when there is
 * none. Two atomic operations on this process's own cache lines.
 */
_Atomic uint64_t *process_flight(struct process_self *self, claim c);

/* The flight is over. @place may be NULL. */
void process_landed(_Atomic uint64_t *place);

/*
 * Whether the process of an entry lives. An entry of another pid namespace counts as
 * living: from here it cannot be known. One or two system calls and a small file.
 */
bool process_alive(const struct tuplebind_process *entry);

/* Field 22 of /proc/PID/stat, which with the id names a process for ever; 0: cannot be read. */
uint64_t process_start_time(pid_t pid);
