#include "tools/common/tablefile.h"

#include "tools/common/command.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Tables that are being made have a file of their own until they are complete. */
static int is_table(const struct dirent *entry)
{
	return strncmp(entry->d_name, TABLE_PREFIX, strlen(TABLE_PREFIX)) == 0 &&
	       strstr(entry->d_name, TABLE_FRESH) == NULL;
}

int tablefile_each(tablefile_visit *visit, void *context)
{
	struct dirent **files;
	int count = scandir(TABLE_DIRECTORY, &files, is_table, alphasort);

	if (count < 0)
		return -errno;
	for (int i = 0; i < count; i++) {
		char path[sizeof TABLE_DIRECTORY + 256];
		struct tablefile t = {.file = files[i]->d_name, .path = path};

		snprintf(path, sizeof path, TABLE_DIRECTORY "/%s", t.file);
		/* It may have been removed just now. */
		if (place_stat(path, &t.st) == 0) {
			t.others = t.st.st_uid != place_user();
			visit(context, &t);
		}
		free(files[i]);
	}
	free(files);
	return 0;
}

int tablefile_each_told(
	const char *subcommand, struct netns *ns, tablefile_visit *visit, void *context)
{
	int error = netns_current(ns);

	if (error < 0)
		return command_fail(
			"%s: cannot tell the network namespace: %s", subcommand, strerror(-error));
	error = tablefile_each(visit, context);
	if (error < 0)
		return command_fail("%s: %s: %s", subcommand, TABLE_DIRECTORY, strerror(-error));
	return 0;
}

void tablefile_name(const char *file, char name[static TABLEFILE_NAME])
{
	const char *rest = file + strlen(TABLE_PREFIX);
	const char *namespace_end = strchr(rest, '.');

	/* <uid>.<inode>.<name>: a name may have dots itself. */
	if (namespace_end != NULL)
		namespace_end = strchr(namespace_end + 1, '.');
	snprintf(name, TABLEFILE_NAME, "%s", namespace_end ? namespace_end + 1 : rest);
}

bool tablefile_own_name(
	const struct netns *ns, const char *file, char name[static TABLEFILE_OWN_NAME])
{
	char path[TABLE_PATH_MAX];
	const char *end = place_suffix(file);

	place_path(path, NULL, place_uid(), ns, 0);
	const char *own = path + strlen(TABLE_DIRECTORY "/");
	size_t length = strlen(own);
	if (strncmp(file, own, length) != 0 || (file + length != end && file[length] != '.'))
		return false;
	file += length + (file[length] == '.');
	snprintf(name, TABLEFILE_OWN_NAME, "%.*s", (int)(end - file), file);
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

void tablefile_users(const struct stat *file, proc_visit *visit, void *context)
{
	struct search s = {file, visit, context};

	proc_each(look_at_process, &s);
}
