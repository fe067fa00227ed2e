#include "tools/common/owntable.h"

#include "table/table.h"

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
	FILE *list = proc_open(pid, "maps");
	char *line = NULL;
	size_t size = 0;
	bool found = false;

	while (list != NULL && !found && getline(&line, &size, list) > 0) {
		unsigned major_number, minor_number;
		unsigned long long inode;

		found = sscanf(line, "%*s %*s %*s %x:%x %llu", &major_number, &minor_number,
				&inode) == 3 &&
			inode == file->st_ino && major_number == major(file->st_dev) &&
			minor_number == minor(file->st_dev);
	}
	free(line);
	if (list != NULL)
		fclose(list);
	return found;
}

struct search {
	const struct stat *file;
	proc_visit *visit;
	void *context;
};

static void look_at_process(void *context, pid_t pid)
{
	const struct search *s = context;

	if (pid != getpid() && maps(pid, s->file))
		s->visit(s->context, pid);
}

void owntable_users(const struct stat *file, proc_visit *visit, void *context)
{
	struct search s = {file, visit, context};

	proc_each(look_at_process, &s);
}
