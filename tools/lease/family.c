#include "tools/lease/family.h"

#include "tools/common/proc.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEPTH_MAX 256

/* 0: there is no such process, or it cannot be seen. */
static pid_t parent_of(pid_t pid)
{
	FILE *file = proc_open(pid, "stat");
	char line[512];
	int parent = 0;

	if (file == NULL)
		return 0;
	size_t length = fread(line, 1, sizeof line - 1, file);
	fclose(file);
	line[length] = '\0';
	/* The name before it may have blanks and parentheses. */
	const char *end = strrchr(line, ')');
	return end != NULL && sscanf(end, ") %*c %d", &parent) == 1 ? parent : 0;
}

/* A round of signals. */
struct round {
	int signal, count;
};

static void signal_child(void *context, pid_t pid)
{
	struct round *r = context;

	if (pid < 2 || parent_of(pid) != getpid())
		return;
	kill(pid, r->signal);
	r->count++;
}

int family_signal(int signal)
{
	struct round r = {signal, 0};

	proc_each(signal_child, &r);
	return r.count;
}

bool family_has(pid_t pid)
{
	for (int i = 0; i < DEPTH_MAX && pid > 1; i++) {
		pid = parent_of(pid);
		if (pid == getpid())
			return true;
	}
	return false;
}
