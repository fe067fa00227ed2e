/*
 * /dev/shm and the tables in it, as doctor looks at them.
 */
#include "tools/common/command.h"
#include "tools/common/tablefile.h"
#include "tools/doctor/parts.h"

#include "table/slab.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* The table that is in force, or would be. */
struct in_force {
	const char *name; /* NULL: the user's default one */
	struct netns netns;
	struct table table;
	int error; /* 0, -ENOENT: none yet, or why it is refused */
	struct fault fault;
};

/* A whole number of megabytes, rounded up. */
static uint64_t megabytes(uint64_t bytes)
{
	return (bytes + (1 << 20) - 1) >> 20;
}

static void look_at_room(struct doctor *d, const struct statfs *fs, const struct in_force *t)
{
	uint64_t block = (uint64_t)fs->f_bsize, size = fs->f_blocks * block;
	uint64_t left = fs->f_bavail * block, wanted = d->config.table_size;
	char command[DOCTOR_COMMAND];
	/* A size of 0 is no limit. */
	bool short_of = t->error == -ENOENT && size != 0 && left < wanted;

	snprintf(command, sizeof command, "mount -o remount,size=%" PRIu64 "M " TABLE_DIRECTORY,
		megabytes(size - left + 2 * wanted));
	doctor_tell(d, short_of ? LEVEL_MEND : LEVEL_OK, TABLE_DIRECTORY,
		"the table is allocated in full when it is made, and does not fit; or set a "
		"smaller TUPLEBIND_TABLE_SIZE",
		command, "%" PRIu64 " MB of %" PRIu64 " MB free", left >> 20, size >> 20);
}

/* False: no table can be there. */
static bool look_at_directory(struct doctor *d, const struct in_force *t)
{
	static const char mount[] = "mkdir -p " TABLE_DIRECTORY
				    " && mount -t tmpfs -o mode=1777 tmpfs " TABLE_DIRECTORY;
	static const char why[] = "tables are files there; without one a program runs without "
				  "tuplebind, unless TUPLEBIND_TABLE=private";
	struct statfs fs;

	if (statfs(TABLE_DIRECTORY, &fs) < 0) {
		doctor_tell(d, LEVEL_MEND, TABLE_DIRECTORY, why, mount, "%s", strerror(errno));
		return false;
	}
	if (access(TABLE_DIRECTORY, R_OK | W_OK | X_OK) < 0) {
		doctor_tell(d, LEVEL_MEND, TABLE_DIRECTORY, why,
			errno == EROFS ? "mount -o remount,rw " TABLE_DIRECTORY
				       : "chmod 1777 " TABLE_DIRECTORY,
			"%s", strerror(errno));
		return false;
	}
	if (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC)
		doctor_tell(d, LEVEL_NOTE, TABLE_DIRECTORY,
			"the kernel goes on writing the table to the disk", mount,
			"no tmpfs is mounted there");
	look_at_room(d, &fs, t);
	return true;
}

static bool has_claims(const struct tuplebind_slab *slab)
{
	uint64_t claims = 0;

	for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++)
		claims |= atomic_load_explicit(&slab->claims[w], memory_order_relaxed);
	return claims != 0;
}

static uint64_t count_used(const struct table *t)
{
	uint64_t used = 0;

	for (uint64_t i = 0; i < t->slab_count; i++)
		used += has_claims(&t->slabs[i]);
	return used;
}

/* A table that others cannot be made beside, and how much is in it. */
static void look_at_fill(struct doctor *d, const struct in_force *t)
{
	uint64_t used = count_used(&t->table), all = t->table.slab_count;
	uint64_t refused = table_counter(&t->table, TUPLEBIND_TABLE_FULL);
	uint64_t wanted =
		d->config.table_size - d->config.table_size % sizeof(struct tuplebind_slab);
	char command[DOCTOR_COMMAND];
	enum level level = refused != 0 || used * 10 >= all * 9 ? LEVEL_MEND
			   : t->table.size < wanted		? LEVEL_NOTE
								: LEVEL_OK;

	snprintf(command, sizeof command,
		"tuplebind reset%s%s && export TUPLEBIND_TABLE_SIZE=%" PRIu64 "M",
		t->name != NULL ? " " : "", t->name != NULL ? t->name : "",
		megabytes(level == LEVEL_MEND ? 4 * t->table.size : wanted));
	doctor_tell(d, level, "table",
		level == LEVEL_MEND ? "stop the programs, remove it, and have a larger one made"
				    : "it was made smaller than TUPLEBIND_TABLE_SIZE says now, "
				      "which counts when it is made anew",
		command,
		"%" PRIu64 " MB, %" PRIu64 " %% in use, %" PRIu64
		" connects left to the kernel for want of room",
		megabytes(t->table.size), used * 100 / all, refused);
}

static void look_at_refused(struct doctor *d, const struct in_force *t)
{
	char command[DOCTOR_COMMAND];

	snprintf(command, sizeof command, "rm -r -- %s", t->table.path);
	doctor_tell(d, LEVEL_MEND, "table", "programs run without tuplebind as long as it is there",
		command, "%s", t->fault.text);
}

/* The name that it should have, and the first of its further places, belong to others. */
static void look_at_place(struct doctor *d, const struct in_force *t)
{
	char command[DOCTOR_COMMAND];
	const char *suffix = place_suffix(t->table.path);

	if (*suffix == '\0')
		return;
	snprintf(command, sizeof command, "ls -l %.*s*", (int)(suffix - t->table.path),
		t->table.path);
	doctor_tell(d, LEVEL_NOTE, "table",
		"other users' files, or tables in use by another version of tuplebind, have the "
		"places before it",
		command, "%s", t->table.path);
}

/* What a service's worker can write to when it has given up root. */
static void look_at_sharing(struct doctor *d, const struct in_force *t)
{
	char command[DOCTOR_COMMAND];

	if (d->program == NULL || t->name != NULL || place_user() != 0)
		return;
	const char *slash = strrchr(d->program, '/'), *name = slash ? slash + 1 : d->program;
	snprintf(command, sizeof command, "export TUPLEBIND_TABLE=%s",
		table_name_valid(name) ? name : "NAME");
	doctor_tell(d, LEVEL_NOTE, "table",
		"a worker of a service that gives up root keeps it, and could spoil it for the "
		"other programs: give each service its own",
		command, "root's default one, which all of root's programs share");
}

struct look {
	struct doctor *d;
	const struct in_force *t;
};

/* A table of this user's under another name: only whether it can be used. */
static void look_at_other(void *context, const struct tablefile *file)
{
	const struct look *l = context;
	char name[TABLEFILE_OWN_NAME];
	struct table table;
	struct fault fault;

	if (!tablefile_own_name(&l->t->netns, file->file, name) ||
		strcmp(name, l->t->name != NULL ? l->t->name : "") == 0 ||
		(name[0] != '\0' && !table_name_valid(name)))
		return;
	int error = table_find(&table, name[0] != '\0' ? name : NULL, &l->t->netns, &fault);
	if (error == 0)
		table_detach(&table);
	else if (error != -ENOENT)
		doctor_tell(l->d, LEVEL_NOTE, "table",
			"programs with that TUPLEBIND_TABLE run without tuplebind", NULL, "%s",
			fault.text);
}

void doctor_tables(struct doctor *d)
{
	static struct in_force t;

	if (d->config.table != NULL && strcmp(d->config.table, TABLE_PRIVATE) == 0) {
		doctor_tell(d, LEVEL_OK, "table", NULL, NULL,
			"private: each program has one of its own");
		return;
	}
	t.name = d->config.table;
	if (netns_current(&t.netns) < 0) {
		doctor_tell(d, LEVEL_MEND, "/proc",
			"a program could not tell which table is its, and runs without tuplebind",
			"mount -t proc proc /proc", "does not tell the network namespace");
		return;
	}
	t.error = table_find(&t.table, t.name, &t.netns, &t.fault);
	if (look_at_directory(d, &t)) {
		if (t.error == -ENOENT)
			doctor_tell(d, LEVEL_OK, "table", NULL, NULL, "none yet");
		else if (t.error < 0)
			look_at_refused(d, &t);
		else
			look_at_fill(d, &t);
		if (t.error == 0 || t.error == -ENOENT)
			look_at_place(d, &t);
		look_at_sharing(d, &t);
		int error = tablefile_each(look_at_other, &(struct look){d, &t});
		if (error < 0)
			command_fail("doctor: %s: %s", TABLE_DIRECTORY, strerror(-error));
	}
	if (t.error == 0)
		table_detach(&t.table);
}
