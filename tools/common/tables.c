/*
 * The table files of all users, and the names of tables.
 */
#include "tools/common/command.h"

#include <errno.h>
#include <string.h>

/* Tables that are being made have a file of their own until they are complete. */
static int is_table(const struct dirent *entry)
{
	return strncmp(entry->d_name, TABLE_PREFIX, strlen(TABLE_PREFIX)) == 0 &&
	       strstr(entry->d_name, TABLE_FRESH) == NULL;
}

int command_scan_tables(struct dirent ***files)
{
	int count = scandir(TABLE_DIRECTORY, files, is_table, alphasort);

	return count < 0 ? -errno : count;
}

int command_tables(const char *subcommand, struct dirent ***files)
{
	int count = command_scan_tables(files);

	if (count < 0)
		command_fail("%s: %s: %s", subcommand, TABLE_DIRECTORY, strerror(-count));
	return count;
}

void command_table_name(const char *file, char name[static COMMAND_TABLE_NAME])
{
	const char *rest = file + strlen(TABLE_PREFIX);
	const char *namespace_end = strchr(rest, '.');

	/* <uid>.<inode>.<name>: a name may have dots itself. */
	if (namespace_end != NULL)
		namespace_end = strchr(namespace_end + 1, '.');
	snprintf(name, COMMAND_TABLE_NAME, "%s", namespace_end ? namespace_end + 1 : rest);
}

bool command_table_file(
	const char *file, char path[static COMMAND_TABLE_PATH], struct stat *st, bool *others)
{
	snprintf(path, COMMAND_TABLE_PATH, TABLE_DIRECTORY "/%s", file);
	if (place_stat(path, st) < 0)
		return false;
	*others = st->st_uid != place_user();
	return true;
}
