#include "tools/lease/family.h"

#include "base/parse.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH_MAX 256

/* 0: there is no such process, or it cannot be seen. */
static pid_t parent_of(pid_t pid)
{
	char path[32], line[512];
	int parent = 0;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	FILE *file = fopen(path, "re");
	if (file == NULL)
		return 0;
	size_t length = fread(line, 1, sizeof line - 1, file);
	fclose(file);
	line[length] = '\0';
	/* The name before it may have blanks and parentheses. */
	const char *end = strrchr(line, ')');
	return end != NULL && sscanf(end, ") %*c %d", &parent) == 1 ? parent : 0;
}

int family_signal(int signal, pid_t except)
{
	DIR *processes = opendir("/proc");
	const struct dirent *entry;
	uint64_t pid;
	int count = 0;

	if (processes == NULL)
		return 0;
	while ((entry = readdir(processes)) != NULL) {
		if (parse_number(entry->d_name, 2, INT32_MAX, &pid) < 0 || (pid_t)pid == except ||
			parent_of((pid_t)pid) != getpid())
			continue;
		kill((pid_t)pid, signal);
		count++;
	}
	closedir(processes);
	return count;
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
