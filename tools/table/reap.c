/*
 * tuplebind reap: gives back the claims whose sockets are gone.
 *
 * One dump of the namespace's sockets tells which claims need no more asking; each of
 * the rest is asked about on its own, right before it is given back (table/reap.h). So a
 * claim goes only when the kernel was seen twice without its socket.
 */
#include "tools/common/apart.h"
#include "tools/common/command.h"
#include "tools/common/options.h"
#include "tools/common/progress.h"
#include "tools/common/tablefile.h"
#include "tools/subcommands.h"

#include "kernel/diag.h"
#include "table/reap.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

/* A look through all tables. */
struct round {
	bool all_users;
	struct netns ns;
	const struct tablefile *now;
	/* What was left alone, and why. */
	unsigned users, namespaces;
	int status;
};

static const struct option_row rows[] = {
	OPTION_SWITCH(
		struct round, all_users, "all-users", "in those of other users as well, for root"),
	OPTION_END,
};

static const struct options options = {
	.subcommand = "reap",
	.usage = "usage: tuplebind reap [--all-users]\n"
		 "\n"
		 "Gives back the claims whose sockets the kernel no longer has, in all tables of\n"
		 "this user in this network namespace. Connects go on meanwhile. Programs do the\n"
		 "same by themselves when a lane is full.\n"
		 "\n",
	.column = 15,
	.groups = {{rows, 0}},
};

/* Which claims the kernel has sockets for: eight words for each slab of the table. */
struct seen {
	struct table *table;
	uint64_t (*claims)[TUPLEBIND_SLAB_WORDS];
};

static void see(
	void *context, const struct tuplebind_lane *lane, uint16_t lport, enum diag_state state)
{
	struct seen *seen = context;
	unsigned position = permutation_position(&seen->table->permutation, lport);
	unsigned bit = position % TUPLEBIND_SLAB_PORTS;
	uint64_t tag;

	if (state != DIAG_HELD)
		return;
	struct slab_key key = slab_key(
		seen->table, slab_lane_hash(seen->table, lane), position / TUPLEBIND_SLAB_PORTS);
	struct tuplebind_slab *slab = slab_find(seen->table, key, &tag);
	if (slab != NULL)
		seen->claims[slab - seen->table->slabs][bit / 64] |= UINT64_C(1) << (bit % 64);
}

static int reap_all(struct reap *r, struct seen *seen, const char *name, struct progress *p)
{
	uint64_t count = r->table->slab_count;

	progress_show(p, "reap: %s: asking for the kernel's sockets", name);
	int error = diag_dump(IPPROTO_TCP, 0, see, seen);

	if (error == 0)
		error = diag_dump(IPPROTO_UDP, 0, see, seen);

	for (uint64_t i = 0; error >= 0 && i < count; i++) {
		if (i == 0 || progress_due(p))
			progress_show(p, "reap: %s: %llu %% looked through, %llu claims given back",
				name, (unsigned long long)(i * 100 / count),
				(unsigned long long)r->freed);
		error = reap_slab(r, &r->table->slabs[i], seen->claims[i]);
	}
	return error < 0 ? error : 0;
}

/* Another process's reap is short: wait for it rather than leave its rest undone. */
static int start(struct reap *r, struct table *t, const char *name, struct progress *p)
{
	int error = reap_start(r, t);

	if (error == -EBUSY)
		progress_show(p, "reap: %s: another process is at it", name);
	while (error == -EBUSY && reap_wait(t, reap_now() + UINT64_C(20000000000)))
		error = reap_start(r, t);
	return error;
}

static int reap_table(struct table *t, const char *name)
{
	struct seen seen = {.table = t};
	struct progress progress = {.shown = false};
	struct reap reap;
	int error = start(&reap, t, name, &progress);

	if (error < 0) {
		progress_end(&progress);
		return command_fail("reap: %s: %s", name, strerror(-error));
	}
	seen.claims = calloc(t->slab_count, sizeof *seen.claims);
	error = seen.claims == NULL ? -ENOMEM : reap_all(&reap, &seen, name, &progress);
	progress_end(&progress);
	free(seen.claims);
	reap_end(&reap);
	if (error < 0)
		return command_fail("reap: %s: %s, after %llu claims were given back", name,
			strerror(-error), (unsigned long long)reap.freed);
	printf("%s: gave back %llu claims\n", name, (unsigned long long)reap.freed);
	return 0;
}

/* The namespace a table is of, by its file's name: tuplebind.<uid>.<inode>[.<name>]. */
static uint64_t namespace_of(const char *file)
{
	const char *dot = strchr(file + strlen(TABLE_PREFIX), '.');

	return dot != NULL ? strtoull(dot + 1, NULL, 10) : 0;
}

static int reap_file(void *context)
{
	const struct round *r = context;
	char name[TABLEFILE_NAME];
	struct fault fault;
	struct table table;

	tablefile_name(r->now->file, name);
	int error = table_open(&table, r->now->path, true, &fault);
	if (error == -ENOENT)
		return 0; /* removed just now */
	if (error < 0)
		return command_fail("reap: %s", fault.text);
	/* The number may have come back: of an earlier namespace the kernel knows nothing here. */
	if (r->ns.cookie == 0 || table.identity.netns_cookie == r->ns.cookie)
		error = reap_table(&table, name);
	table_detach(&table);
	return error;
}

static void visit(void *context, const struct tablefile *t)
{
	struct round *r = context;
	struct fault fault;

	r->now = t;
	if (namespace_of(t->file) != r->ns.inode) {
		r->namespaces++;
	} else if (t->others && !r->all_users) {
		r->users++;
	} else {
		/* Another user's with his rights. */
		int status = t->others ? apart_run(&t->st, reap_file, r, &fault) : reap_file(r);

		if (status < 0)
			command_fail("reap: %s: %s", t->path, fault.text);
		if (status != 0)
			r->status = EXIT_TUPLEBIND;
	}
}

static void tell_others(const struct round *r)
{
	if (r->namespaces > 0)
		fprintf(stderr,
			"tuplebind: reap: %u tables of other network namespaces left alone\n",
			r->namespaces);
	/* Nobody else can do anything about them. */
	if (r->users > 0 && place_user() == 0)
		fprintf(stderr,
			"tuplebind: reap: %u tables of other users left alone; --all-users reaps "
			"them as well\n",
			r->users);
}

int reap_main(int argc, char **argv)
{
	struct round r = {.status = EXIT_SUCCESS};
	int code;

	if (!options_read(&options, &r, argc, argv, &code))
		return code;
	if ((code = tablefile_each_told("reap", &r.ns, visit, &r)) != 0)
		return code;
	tell_others(&r);
	return r.status;
}
