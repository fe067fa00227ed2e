/*
 * Connects that get no tuple of the table's: left to the kernel, or refused, and said so.
 */
#pragma once

#include "engine/search.h"

/* Makes the program's call without us, and counts why. 0, or its errno. */
int leave_whole(struct attempt *a, enum tuplebind_counter why);

/*
 * Leaves the port to the kernel, but not the address: the program's stays, else one of the pool is
 * bound. Counts why. 0, or the errno for the program.
 */
int leave_port(struct attempt *a, enum search how, enum tuplebind_counter why);

/* No call is made: undoes what was done to the socket. @error. */
int refuse(struct attempt *a, int error);

/*
 * The address that the program bound could not be kept: better no connection than from another one.
 * EADDRNOTAVAIL.
 */
int refuse_lost(struct attempt *a);

/*
 * What chose the address cannot be used, and @reason says why: tells the log. 0: TUPLEBIND_UNUSABLE
 * has the kernel choose. Else the error that the program is refused with.
 */
int refuse_unusable(struct attempt *a, const char *reason);

/* No tuple is left, or no room in the table: refused, or left to the kernel, as the settings say.
 */
int leave_full(struct attempt *a);
int leave_table_full(struct attempt *a);
