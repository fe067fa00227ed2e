/*
 * The tables of this user in this network namespace, by their files, and who has them mapped.
 */
#pragma once

#include "tools/common/proc.h"

#include "kernel/netns.h"

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

/*
 * The name behind a table file of this user in namespace @ns, at whatever place: TUPLEBIND_TABLE,
 * "" for the default table. False: the file is another user's or namespace's by its name.
 */
#define OWNTABLE_NAME 256
bool owntable_name(const struct netns *ns, const char *file, char name[static OWNTABLE_NAME]);

/*
 * Visits the processes that have the file mapped, as far as this user may look (/proc/PID/maps):
 * a process is there from its start on, whatever the table says. Not the calling process. One
 * small file for each process of the host.
 */
void owntable_users(const struct stat *file, proc_visit *visit, void *context);
