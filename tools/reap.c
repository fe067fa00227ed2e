/*
 * tuplebind reap: gives back the claims whose sockets are gone.
 *
 * One dump of the namespace's sockets tells which claims need no more asking; each of
 * the rest is asked about on its own, right before it is given back (table/reap.h). So a
 * claim goes only when the kernel was seen twice without its socket.
 */
#include "tools/command.h"
#include "tools/progress.h"

#include "kernel/diag.h"
#include "table/reap.h"

#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
	"usage: tuplebind reap\n"
	"\n"
	"Gives back the claims whose sockets the kernel no longer has, in all tables of\n"
	"this network namespace that this user may write to. Connects go on meanwhile.\n"
	"Programs do the same by themselves when a lane is full.\n";

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

static int reap_file(const char *file, const struct netns *ns)
{
	char path[TABLE_PATH_MAX * 2 + 16], name[TABLE_NAME_MAX + 1];
	struct fault fault;
	struct table table;

	snprintf(path, sizeof path, TABLE_DIRECTORY "/%s", file);
	command_table_name(file, name);
	int error = table_open(&table, path, true, &fault);
	if (error == -EACCES || error == -ENOENT)
		return 0; /* another user's, or removed just now */
	if (error < 0)
		return command_fail("reap: %s", fault.text);
	/* The number may have come back: of an earlier namespace the kernel knows nothing here. */
	if (ns->cookie == 0 || table.identity.netns_cookie == ns->cookie)
		error = reap_table(&table, name);
	table_detach(&table);
	return error;
}

int reap_main(int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct dirent **files;
	struct netns ns;
	int option, others = 0, status = EXIT_SUCCESS;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == 'h')
			return command_help(help);
		return command_usage("reap", "%s is not an option", argv[optind - 1]);
	}
	if (optind < argc)
		return command_usage("reap", "\"%s\" is too much", argv[optind]);
	int error = netns_current(&ns);
	if (error < 0)
		return command_fail(
			"reap: cannot tell the network namespace: %s", strerror(-error));
	int count = command_tables("reap", &files);
	if (count < 0)
		return EXIT_TUPLEBIND;
	for (int i = 0; i < count; i++) {
		if (namespace_of(files[i]->d_name) != ns.inode)
			others++;
		else if (reap_file(files[i]->d_name, &ns) != 0)
			status = EXIT_TUPLEBIND;
		free(files[i]);
	}
	free(files);
	if (others > 0)
		fprintf(stderr,
			"tuplebind: reap: %d tables of other network namespaces left alone\n",
			others);
	return status;
}
