#include "tools/common/owntable.h"

#include "table/table.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

bool owntable_name(const struct netns *ns, const char *file, char name[static OWNTABLE_NAME])
{
	char path[TABLE_PATH_MAX];
	const char *end = place_suffix(file);

	place_path(path, NULL, place_uid(), ns, 0);
	const char *own = path + strlen(TABLE_DIRECTORY "/");
	size_t length = strlen(own);
	if (strncmp(file, own, length) != 0 || (file + length != end && file[length] != '.'))
		return false;
	file += length + (file[length] == '.');
	snprintf(name, OWNTABLE_NAME, "%.*s", (int)(end - file), file);
	return true;
}

static bool maps(pid_t pid, const struct stat *file)
{
	char path[64], *line = NULL;
	size_t size = 0;
	bool found = false;

	snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
	FILE *list = fopen(path, "re");
	if (list == NULL)
		return false;
	while (!found && getline(&line, &size, list) > 0) {
		unsigned major_number, minor_number;
		unsigned long long inode;

		found = sscanf(line, "%*s %*s %*s %x:%x %llu", &major_number, &minor_number,
				&inode) == 3 &&
			inode == file->st_ino && major_number == major(file->st_dev) &&
			minor_number == minor(file->st_dev);
	}
	free(line);
	fclose(list);
	return found;
}

void owntable_users(const struct stat *file, owntable_user *visit, void *context)
{
	DIR *directory = opendir("/proc");
	const struct dirent *entry;

	while (directory != NULL && (entry = readdir(directory)) != NULL) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid > 0 && pid != getpid() && maps(pid, file))
			visit(context, pid);
	}
	if (directory != NULL)
		closedir(directory);
}
