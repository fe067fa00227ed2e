/*
 * What tuplebind can do for a program, read from its file before it is started.
 *
 * A program is served when glibc's loader starts it and puts the library in front of it. The
 * file says when that cannot be: no loader, another one, or one that takes no preloads from
 * its caller; and when it would be of no use, because the program makes its system calls
 * without libc. Of a script it is the interpreter that counts.
 *
 * Files are read with pread() alone, in pieces of bounded size and number: whatever is in
 * them, the worst that comes of it is a wrong answer. What cannot be read or is no program
 * counts as served; exec has to say what is wrong with it.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>

enum program_service {
	PROGRAM_SERVED,
	PROGRAM_IN_PART,   /* some of its connects may pass unseen */
	PROGRAM_UNSERVED,  /* not itself, but what it starts may be */
	PROGRAM_UNLOADABLE /* the library must not be preloaded: its loader would fail or complain
			    */
};

struct program {
	enum program_service service;
	char file[PATH_MAX]; /* what was looked at: the program, or the interpreter of a script */
	const char *why;     /* "is statically linked", unless served */
	const char *remedy;  /* "use a dynamically linked build", unless served */
};

/* Finds a program as execvp() would. False: it has to say what is wrong. */
bool program_find(const char *name, char path[static PATH_MAX]);

/* Looks at the program that exec would start for the file @path. */
void program_examine(struct program *p, const char *path);
