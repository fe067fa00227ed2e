/*
 * tuplebind reset: removes tables.
 *
 * Only what is a table, of this user (or, if asked, of all) and this network namespace. Whether a
 * program is attached is asked of the kernel, which keeps others from attaching until the table is
 * gone (table/place.h). What a program loses that goes on with a table that was removed by force is
 * the knowledge of what others claim; the kernel keeps them apart all the same.
 */
#include "tools/common/apart.h"
#include "tools/common/command.h"
#include "tools/common/options.h"
#include "tools/common/tablefile.h"
#include "tools/subcommands.h"

#include "table/process.h"

#include <bsd/libutil.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct request {
	const char *wanted; /* NULL: all */
	bool force, all_users;
	struct netns ns;
	const struct tablefile *now;
	unsigned found;
	int status;
};

static const struct option_row rows[] = {
	OPTION_SWITCH(struct request, force, "force",
		"also then: its programs go on with it, and know nothing any more\n"
		"of the claims of those that start later"),
	OPTION_SWITCH(
		struct request, all_users, "all-users", "those of other users as well, for root"),
	OPTION_END,
};

static const struct options options = {
	.subcommand = "reset",
	.usage =
		"usage: tuplebind reset [--force] [--all-users] [TABLE]\n"
		"\n"
		"Removes the table TABLE (a name as TUPLEBIND_TABLE or tuplebind status has it),\n"
		"or all tables, of this user in this network namespace. Programs that start later\n"
		"make a new one. While a program is attached to it a table is left alone.\n"
		"\n",
	.notes = "\nExit status: 0 all that was asked for is gone, 125 something was left.\n",
	.column = 15,
	.words = 1,
	.groups = {{rows, 0}},
};

#define NAMED_MAX 5 /* processes in a message */

/* Processes that use a table. */
struct users {
	unsigned count;
	char names[256];
};

static void add_user(struct users *u, unsigned pid, const char *name)
{
	size_t at = strlen(u->names);

	if (u->count++ < NAMED_MAX)
		snprintf(u->names + at, sizeof u->names - at, "%s%u (%s)", at ? ", " : "", pid,
			name);
}

static void add_mapping(void *users, pid_t pid)
{
	char name[32] = "?";
	FILE *file = proc_open(pid, "comm");

	if (file != NULL && fgets(name, sizeof name, file) != NULL)
		name[strcspn(name, "\n")] = '\0';
	if (file != NULL)
		fclose(file);
	add_user(users, (unsigned)pid, name);
}

/*
 * Those that have the file mapped; if none is seen, those that the table lists, which may be of
 * another pid namespace, or not to be looked at.
 */
static struct users find_users(const struct stat *st, const struct table *t)
{
	struct users u = {.count = 0};

	tablefile_users(st, add_mapping, &u);
	if (u.count > 0 || t->header == NULL)
		return u;
	for (unsigned i = 0; i < TUPLEBIND_PROCESSES; i++) {
		const struct tuplebind_process *p = &t->header->processes[i];

		if (process_alive(p))
			add_user(&u, atomic_load_explicit(&p->pid, memory_order_relaxed),
				"by the table");
	}
	return u;
}

static int refuse(const char *name, const struct users *u)
{
	return command_fail("reset: %s: in use by %s%s; stop %s, or remove it with --force", name,
		u->count > 0 ? u->names : "a process that cannot be seen from here",
		u->count > NAMED_MAX ? " and more" : "", u->count > 1 ? "them" : "it");
}

static uint64_t count_claims(const struct table *t)
{
	uint64_t claims = 0;

	for (uint64_t i = 0; i < t->slab_count; i++)
		for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++)
			claims += (unsigned)__builtin_popcountll(
				atomic_load_explicit(&t->slabs[i].claims[w], memory_order_relaxed));
	return claims;
}

/* Opens a file that is a table of this user, whichever version made it. -errno, or why not. */
static int open_own(const char *path, struct stat *st, const char **why)
{
	uint64_t magic = 0;
	int fd = place_open(path, false);

	*why = NULL;
	if (fd == -ELOOP)
		*why = "a symbolic link";
	if (fd < 0)
		return fd;
	if (place_stat_fd(fd, st) < 0)
		*why = "cannot be looked at";
	else if (!S_ISREG(st->st_mode))
		*why = "not a regular file";
	else if (st->st_uid != place_user())
		*why = "belongs to another user";
	else if (pread(fd, &magic, sizeof magic, 0) != sizeof magic ||
		 magic != TUPLEBIND_TABLE_MAGIC)
		*why = "not a tuple table";
	if (*why == NULL)
		return fd;
	close(fd);
	return -EINVAL;
}

/* Removes the file that was looked at, if nobody uses it or @force. */
static int remove_table(const char *path, const char *name, const struct stat *st,
	const struct table *t, const struct users *u, bool force)
{
	struct stat now;
	/* Where the kernel grants no leases it has to do that nobody was seen. */
	int error = place_remove(path, st, force);

	if (error == -EOPNOTSUPP && u->count == 0)
		error = place_remove(path, st, true);
	if (error == -EBUSY || error == -EOPNOTSUPP) {
		struct users seen = find_users(st, t);

		return refuse(name, &seen);
	}
	if (error == -EAGAIN)
		return command_fail("reset: %s: another process is removing it; left alone", name);
	if (error == -ENOENT && place_stat(path, &now) == 0)
		return command_fail(
			"reset: %s: made anew in this moment; left alone, try again", name);
	if (error == 0 || error == -ENOENT)
		return 0;
	return command_fail("reset: %s: %s", name, strerror(-error));
}

static void tell_removed(
	const char *name, const struct stat *st, const struct table *t, const struct users *u)
{
	char size[8];

	humanize_number(size, sizeof size, (int64_t)st->st_size, "B", HN_AUTOSCALE, 0);
	printf("%s: removed, %s", name, size);
	if (t->header != NULL)
		printf(", %llu claims", (unsigned long long)count_claims(t));
	else
		printf(", of another version or overwritten");
	if (u->count > 0) {
		printf("; in use still by ");
		command_put(stdout, u->names);
		printf("%s", u->count > NAMED_MAX ? " and more" : "");
	}
	putchar('\n');
}

static int reset_file(const char *path, const char *name, bool force)
{
	struct table table = {.header = NULL};
	struct fault unused;
	struct stat st = {.st_ino = 0};
	const char *why = NULL;

	int fd = open_own(path, &st, &why);
	if (fd == -ENOENT)
		return 0; /* removed just now */
	if (fd < 0)
		return command_fail(
			"reset: %s: %s; left alone", path, why != NULL ? why : strerror(-fd));
	/* What no library would attach to can be removed all the same. */
	if (table_open(&table, path, false, &unused) < 0)
		table.header = NULL;
	struct users u = find_users(&st, &table);
	int error = remove_table(path, name, &st, &table, &u, force);
	if (error == 0)
		tell_removed(name, &st, &table, &u);
	table_detach(&table);
	close(fd);
	return error;
}

/* Whether a table file is one that was asked for. @own: its name, see tablefile_own_name(). */
static bool is_wanted(const char *wanted, const char *file, const char *own)
{
	char shown[TABLEFILE_NAME];

	if (wanted == NULL || (own[0] != '\0' && strcmp(wanted, own) == 0))
		return true;
	tablefile_name(file, shown);
	return own[0] == '\0' && strlen(wanted) == (size_t)(place_suffix(shown) - shown) &&
	       strncmp(wanted, shown, strlen(wanted)) == 0;
}

/* Of a file that is none of those that were asked for. */
#define NOT_ASKED_FOR 1

/* 0, NOT_ASKED_FOR, or EXIT_TUPLEBIND with the reason told. */
static int reset_one(void *context)
{
	const struct request *r = context;
	const char *file = r->now->file;
	char own[TABLEFILE_OWN_NAME], shown[TABLEFILE_NAME];

	if (!tablefile_own_name(&r->ns, file, own) || !is_wanted(r->wanted, file, own))
		return NOT_ASKED_FOR;
	if (own[0] != '\0' && !table_name_valid(own))
		return command_fail(
			"reset: " TABLE_DIRECTORY "/%s: not a name of a table; left alone", file);
	tablefile_name(file, shown);
	return reset_file(r->now->path, shown, r->force);
}

static void visit(void *context, const struct tablefile *t)
{
	struct request *r = context;
	struct fault fault;

	r->now = t;
	/* Another user's with his rights, and by his names. */
	int status =
		t->others && r->all_users ? apart_run(&t->st, reset_one, r, &fault) : reset_one(r);
	if (status < 0)
		command_fail("reset: %s: %s", t->file, fault.text);
	r->found += status != NOT_ASKED_FOR;
	if (status != NOT_ASKED_FOR && status != 0)
		r->status = EXIT_TUPLEBIND;
}

static int reset_tables(struct request *r)
{
	int error = tablefile_each_told("reset", &r->ns, visit, r);

	if (error != 0)
		return error;
	if (r->found == 0 && r->wanted != NULL)
		return command_fail("reset: there is no table %s of %s in this network "
				    "namespace; tuplebind status shows them",
			r->wanted, r->all_users ? "any user" : "this user");
	if (r->found == 0)
		printf("no tables of %s in this network namespace\n",
			r->all_users ? "any user" : "this user");
	return r->status;
}

int reset_main(int argc, char **argv)
{
	struct request request = {.status = EXIT_SUCCESS};
	int code;

	if (!options_read(&options, &request, argc, argv, &code))
		return code;
	const char *wanted = argv[optind];
	if (wanted != NULL && strcmp(wanted, TABLE_PRIVATE) == 0)
		return command_usage("reset", "a private table ends with its program");
	if (wanted != NULL && !table_name_valid(wanted))
		return command_usage("reset",
			"\"%.100s\" is not a name of a table; accepted: 1 to 64 of A-Z a-z 0-9 _ - "
			"and inner dots",
			wanted);
	request.wanted = wanted;
	int status = reset_tables(&request);
	code = command_flush("reset");
	return code != 0 ? code : status;
}
