/*
 * tuplebind status: what is claimed, by whom, in which table.
 *
 * Reads the tables without attaching to them: every word is taken for a number that
 * may be wrong, and nothing is written.
 */
#include "tools/command.h"

#include "base/text.h"
#include "table/claim.h"
#include "table/process.h"
#include "version.h"

#include <bsd/libutil.h>
#include <bsd/stdlib.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
	"usage: tuplebind status [--json] [--lanes N]\n"
	"\n"
	"Shows the tuple tables that this user may read: lanes, claims, processes, counters, and\n"
	"the N fullest lanes (default 10).\n"
	"\n"
	"  --json      one JSON object, for programs\n"
	"  --lanes N   how many lanes to show; 0: none\n";

#define LANES_DEFAULT 10

struct lane_claims {
	struct tuplebind_lane lane;
	uint64_t claims;
	UT_hash_handle hh;
};

/* One table, summed up. */
struct summary {
	char name[TABLE_NAME_MAX + 1];
	struct table table;
	uint64_t claims, lane_count;
	struct lane_claims *lanes;
};

/* In the order of enum tuplebind_counter: the counters, and behind them why connects were passed.
 */
static const char *const counter_names[TUPLEBIND_COUNTERS] = {"bound", "late", "explicit",
	"timewait_reused", "retries", "full", "passed", "reaped", "table_full", "skipped", "bound",
	"special", "namespace", "helpless", "full"};

#define REASONS_FIRST TUPLEBIND_PASSED_SKIPPED

static uint64_t counter_of(const struct summary *s, int counter)
{
	return table_counter(&s->table, (enum tuplebind_counter)counter);
}

static int add_slab(struct summary *s, const struct tuplebind_slab *slab)
{
	struct tuplebind_lane lane;
	struct lane_claims *known;
	unsigned number, claims = 0;

	if (!slab_read(slab, &lane, &number))
		return 0;
	for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++)
		claims += (unsigned)__builtin_popcountll(
			atomic_load_explicit(&slab->claims[w], memory_order_relaxed));
	if (claims == 0)
		return 0;
	HASH_FIND(hh, s->lanes, &lane, sizeof lane, known);
	if (known == NULL) {
		known = calloc(1, sizeof *known);
		if (known == NULL)
			return -ENOMEM;
		known->lane = lane;
		HASH_ADD(hh, s->lanes, lane, sizeof lane, known);
		s->lane_count++;
	}
	known->claims += claims;
	s->claims += claims;
	return 0;
}

static int sum_up(struct summary *s)
{
	int error = 0;

	for (uint64_t i = 0; i < s->table.slab_count && error == 0; i++)
		error = add_slab(s, &s->table.slabs[i]);
	return error;
}

static void summary_free(struct summary *s)
{
	struct lane_claims *l, *next;

	HASH_ITER(hh, s->lanes, l, next)
	{
		HASH_DEL(s->lanes, l);
		free(l);
	}
	table_detach(&s->table);
}

/* Names come from shared memory: nothing but what prints plainly goes out. */
static void process_name(const struct tuplebind_process *p, char out[static 17])
{
	uint64_t words[2];

	for (int i = 0; i < 2; i++)
		words[i] = atomic_load_explicit(&p->name[i], memory_order_relaxed);
	memcpy(out, words, 16);
	out[16] = '\0';
	for (char *c = out; *c != '\0'; c++)
		if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\')
			*c = '?';
}

/* Visits the living processes of a table. */
#define FOR_EACH_PROCESS(s, p)                                                                     \
	for (const struct tuplebind_process *p = (s)->table.header->processes;                     \
		p < (s)->table.header->processes + TUPLEBIND_PROCESSES; p++)                       \
		if (atomic_load_explicit(&p->pid, memory_order_relaxed) != 0 && process_alive(p))

static void print_json(struct summary *s)
{
	const char *separator = "";
	char name[17];

	printf("{\"name\":\"%s\",\"netns\":%llu,\"size\":%zu,\"lanes\":%llu,\"claims\":%llu,"
	       "\"processes\":[",
		s->name, (unsigned long long)s->table.header->identity.netns, s->table.size,
		(unsigned long long)s->lane_count, (unsigned long long)s->claims);
	FOR_EACH_PROCESS(s, p)
	{
		process_name(p, name);
		printf("%s{\"pid\":%u,\"name\":\"%s\"}", separator,
			atomic_load_explicit(&p->pid, memory_order_relaxed), name);
		separator = ",";
	}
	printf("],\"counters\":{");
	for (int i = 0; i < REASONS_FIRST; i++)
		printf("%s\"%s\":%llu", i ? "," : "", counter_names[i],
			(unsigned long long)counter_of(s, i));
	printf("}}");
}

static int fuller(const struct lane_claims *a, const struct lane_claims *b)
{
	return (a->claims < b->claims) - (a->claims > b->claims);
}

static void print_lane(const struct lane_claims *l)
{
	struct addr laddr, faddr = {.scope = l->lane.scope};
	struct text line;

	laddr = faddr;
	memcpy(laddr.bytes, l->lane.laddr, sizeof laddr.bytes);
	memcpy(faddr.bytes, l->lane.faddr, sizeof faddr.bytes);
	text_clear(&line);
	text_put_addr(&line, &laddr);
	text_put(&line, " -> ");
	text_put_endpoint(&line, &faddr, l->lane.fport);
	if (l->lane.protocol == IPPROTO_UDP)
		text_put(&line, " (udp)");
	printf("  %8llu  %s\n", (unsigned long long)l->claims, line.bytes);
}

static void print_text(struct summary *s, uint64_t lanes_shown)
{
	char name[17], size[8];
	uint64_t shown = 0;

	humanize_number(size, sizeof size, (int64_t)s->table.size, "B", HN_AUTOSCALE, 0);
	printf("%s  %s, network namespace %llu\n  %llu lanes, %llu claims\n", s->name, size,
		(unsigned long long)s->table.header->identity.netns,
		(unsigned long long)s->lane_count, (unsigned long long)s->claims);
	printf("  processes:");
	FOR_EACH_PROCESS(s, p)
	{
		process_name(p, name);
		printf(" %u (%s)", atomic_load_explicit(&p->pid, memory_order_relaxed), name);
		shown++;
	}
	printf("%s\n ", shown ? "" : " none");
	for (int i = 0; i < TUPLEBIND_COUNTERS; i++)
		if (i < REASONS_FIRST || counter_of(s, i) != 0)
			printf("%s%s %llu",
				i == 0		     ? " "
				: i >= REASONS_FIRST ? ", passed by "
						     : ", ",
				counter_names[i], (unsigned long long)counter_of(s, i));
	printf("\n");
	HASH_SORT(s->lanes, fuller);
	if (s->lanes != NULL && lanes_shown > 0)
		printf("    claims  lane\n");
	shown = 0;
	for (struct lane_claims *l = s->lanes; l != NULL && shown < lanes_shown;
		l = l->hh.next, shown++)
		print_lane(l);
	if (lanes_shown > 0 && s->lane_count > shown)
		printf("            and %llu more lanes\n",
			(unsigned long long)(s->lane_count - shown));
}

static int show(const char *file, bool json, uint64_t lanes_shown, bool first)
{
	struct summary s = {.claims = 0};
	struct fault fault;
	char path[TABLE_PATH_MAX * 2 + 16];
	int error;

	snprintf(path, sizeof path, TABLE_DIRECTORY "/%s", file);
	command_table_name(file, s.name);
	error = table_open(&s.table, path, false, &fault);
	if (error == -EACCES || error == -ENOENT)
		return -EACCES; /* another user's, or removed just now */
	if (error < 0) {
		command_fail("status: %s", fault.text);
		return error;
	}
	error = sum_up(&s);
	if (error == 0 && json) {
		printf("%s", first ? "" : ",");
		print_json(&s);
	} else if (error == 0) {
		printf("%s", first ? "" : "\n");
		print_text(&s, lanes_shown);
	}
	summary_free(&s);
	return error;
}

int status_main(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"lanes", required_argument, NULL, 'l'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct dirent **files;
	uint64_t lanes_shown = LANES_DEFAULT;
	bool json = false, first = true, failed = false;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (option) {
		case 'j':
			json = true;
			break;
		case 'l':
			if (parse_number(optarg, 0, 1000000, &lanes_shown) < 0)
				return command_usage("status",
					"--lanes: \"%s\" is not a number (0-1000000)", optarg);
			break;
		case 'h':
			return command_help(help);
		case ':':
			return command_usage("status", "%s wants a value", argv[optind - 1]);
		default:
			return command_usage("status", "%s is not an option", argv[optind - 1]);
		}
	}
	if (optind < argc)
		return command_usage("status", "\"%s\" is too much", argv[optind]);
	int count = command_tables("status", &files);
	if (count < 0)
		return EXIT_TUPLEBIND;
	if (json)
		printf("{\"version\":\"%s\",\"tables\":[", TUPLEBIND_VERSION);
	for (int i = 0; i < count; i++) {
		int error = show(files[i]->d_name, json, lanes_shown, first);

		first = first && error != 0;
		failed |= error != 0 && error != -EACCES;
		free(files[i]);
	}
	free(files);
	if (json)
		printf("]}\n");
	else if (first && !failed)
		printf("no tables: no program has run under tuplebind as this user\n");
	if (fflush(stdout) != 0)
		return command_fail("status: %s", strerror(errno));
	/* One table that cannot be read, of another version perhaps, does not spoil the others. */
	return failed && first ? EXIT_TUPLEBIND : EXIT_SUCCESS;
}
