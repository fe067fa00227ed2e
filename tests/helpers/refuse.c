/*
 * refuse {CALL ARGUMENT VALUE ERROR}... -- PROGRAM WORD...: becomes the program, in which these
 * system calls fail. CALL is one of those below, ARGUMENT -1 for any; refusal.h.
 */
#include "refusal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
	const char *name;
	int number;
} calls[] = {
	{"bind", SYS_bind},
	{"connect", SYS_connect},
	{"getsockopt", SYS_getsockopt},
	{"mmap", SYS_mmap},
	{"setsockopt", SYS_setsockopt},
	{"socket", SYS_socket},
};

static int number_of(const char *name)
{
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (strcmp(calls[i].name, name) == 0)
			return calls[i].number;
	fprintf(stderr, "refuse: no call %s\n", name);
	exit(125);
}

int main(int count, char **words)
{
	int at = 1;

	for (; at + 3 < count && strcmp(words[at], "--") != 0; at += 4) {
		if (refuse_call(number_of(words[at]), atoi(words[at + 1]),
			    (uint32_t)strtoul(words[at + 2], NULL, 0), atoi(words[at + 3])) != 0) {
			perror("refuse");
			return 125;
		}
	}
	if (at + 1 < count)
		execvp(words[at + 1], words + at + 1);
	perror("refuse");
	return 127;
}
