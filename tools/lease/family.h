/*
 * The processes below this one.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/*
 * Sends @signal to every child of this process (not to theirs). Children of children
 * that end become children of a subreaper, so that who repeats this until none is left reaches all
 * of them. O(processes of the system). Returns how many there are, 0 also when /proc cannot be
 * read.
 */
int family_signal(int signal);

/* Whether process @pid descends from this one. */
bool family_has(pid_t pid);
