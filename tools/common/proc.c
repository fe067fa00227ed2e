#include "tools/common/proc.h"

#include "base/parse.h"

#include <dirent.h>

void proc_path(pid_t pid, const char *name, char path[static PROC_PATH_MAX])
{
	snprintf(path, PROC_PATH_MAX, "/proc/%d/%s", (int)pid, name);
}

FILE *proc_open(pid_t pid, const char *name)
{
	char path[PROC_PATH_MAX];

	proc_path(pid, name, path);
	return fopen(path, "re");
}

bool proc_number(const char *path, uint64_t *value)
{
	FILE *file = fopen(path, "re");
	unsigned long long number = 0;

	if (file == NULL)
		return false;
	bool got = fscanf(file, "%llu", &number) == 1;
	fclose(file);
	*value = number;
	return got;
}

void proc_each(proc_visit *visit, void *context)
{
	DIR *directory = opendir("/proc");
	const struct dirent *entry;
	uint64_t pid;

	while (directory != NULL && (entry = readdir(directory)) != NULL)
		if (parse_number(entry->d_name, 1, INT32_MAX, &pid) == 0)
			visit(context, (pid_t)pid);
	if (directory != NULL)
		closedir(directory);
}
