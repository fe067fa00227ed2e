/*
 * The files of tables: those of all users, what they are called, and who has one mapped.
 */
#pragma once

#include "tools/common/proc.h"

#include "kernel/netns.h"
#include "table/table.h"

#include <stdbool.h>
#include <sys/stat.h>

struct tablefile {
	const char *file; /* in TABLE_DIRECTORY */
	const char *path;
	struct stat st;
	bool others; /* another user's */
};

/* Visits the table files of all users, by name. Returns 0, or -errno when there is no list. */
typedef void tablefile_visit(void *context, const struct tablefile *t);
int tablefile_each(tablefile_visit *visit, void *context);

/*
 * The same for a subcommand that acts on the tables of this network namespace, which it has in *ns
 * first. Returns 0, or EXIT_TUPLEBIND with the reason told in its name.
 */
int tablefile_each_told(
	const char *subcommand, struct netns *ns, tablefile_visit *visit, void *context);

/*
 * The name of a table by its file: TUPLEBIND_TABLE, or for a default table user and namespace;
 * behind it its place if it is not the first (table/place.h).
 */
#define TABLEFILE_NAME (TABLE_NAME_MAX + 3)
void tablefile_name(const char *file, char name[static TABLEFILE_NAME]);

/*
 * The name behind a table file of this user in namespace @ns, at whatever place: TUPLEBIND_TABLE,
 * "" for the default table. False: the file is another user's or namespace's by its name.
 */
#define TABLEFILE_OWN_NAME 256
bool tablefile_own_name(
	const struct netns *ns, const char *file, char name[static TABLEFILE_OWN_NAME]);

/*
 * Visits the processes that have the file mapped, as far as this user may look (/proc/PID/maps):
 * a process is there from its start on, whatever the table says. Not the calling process. One
 * small file for each process of the host.
 */
void tablefile_users(const struct stat *file, proc_visit *visit, void *context);
