#include "tools/status/snapshot.h"

#include "tools/common/apart.h"
#include "tools/common/clock.h"
#include "tools/common/command.h"
#include "tools/common/io.h"
#include "tools/common/proc.h"

#include "kernel/netns.h"
#include "table/process.h"
#include "table/slab.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* So much of a table is read at a time. */
#define CHUNK_SLABS 1024

const char *const snapshot_counters[TUPLEBIND_COUNTERS] = {"bound", "late", "explicit",
	"timewait_reused", "retries", "full", "passed", "reaped", "table_full", "skipped", "bound",
	"special", "namespace", "helpless", "full"};

/* What is the same for all tables that are read at a time. */
struct reading {
	const struct capacity_base *base;
	struct netns here;
	uint64_t pid_namespace;
	uint64_t now, since_boot; /* seconds */
	struct snapshots *all;
	bool all_users;
	int error;
};

/* One table while it is read: the slabs' sums grow in an array. */
struct gathering {
	struct snapshot *s;
	struct table table;
	int fd;
	size_t room;
	uint64_t counted[TUPLEBIND_LANE_SLABS]
			[TUPLEBIND_SLAB_WORDS]; /* claims on ports that count */
};

/* Names come from shared memory and from files' names: what does not print plainly goes. */
static void make_plain(char *text)
{
	for (char *c = text; *c != '\0'; c++)
		if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\')
			*c = '?';
}

static void make_id(const char *file, char id[static 3 * NAME_MAX + 1])
{
	const unsigned char *c = (const unsigned char *)file + strlen(TABLE_PREFIX);

	for (; *c != '\0'; c++)
		if ((*c < 0x80 && isalnum(*c)) || strchr("_-.", *c) != NULL)
			*id++ = (char)*c;
		else
			id += sprintf(id, "%%%02X", *c);
	*id = '\0';
}

/* Sums. */

static int by_lane(const void *a, const void *b)
{
	const struct snapshot_sum *one = a, *other = b;

	return memcmp(&one->lane, &other->lane, sizeof one->lane);
}

static int by_claims(const void *a, const void *b)
{
	const struct snapshot_sum *one = a, *other = b;
	int order = (one->claims < other->claims) - (one->claims > other->claims);

	return order != 0 ? order : by_lane(a, b);
}

static void sort(struct snapshot_sums *sums, int order(const void *, const void *))
{
	if (sums->count > 1)
		qsort(sums->items, sums->count, sizeof *sums->items, order);
}

/* Makes one sum of those whose lane is the same. */
static void merge(struct snapshot_sums *sums)
{
	size_t kept = 0;

	sort(sums, by_lane);
	for (size_t i = 0; i < sums->count; i++) {
		struct snapshot_sum *into = kept > 0 ? &sums->items[kept - 1] : NULL;
		const struct snapshot_sum *from = &sums->items[i];

		if (into == NULL || by_lane(into, from) != 0) {
			sums->items[kept++] = *from;
			continue;
		}
		into->claims += from->claims;
		into->outside += from->outside;
		into->lanes += from->lanes;
		if (from->fullest > into->fullest)
			into->fullest = from->fullest;
	}
	sums->count = kept;
}

/* The lanes summed up by what @reduce leaves of them. */
static int sum_by(const struct snapshot_sums *lanes, struct snapshot_sums *sums,
	void reduce(struct tuplebind_lane *lane))
{
	if (lanes->count == 0)
		return 0;
	sums->items = reallocarray(NULL, lanes->count, sizeof *sums->items);
	if (sums->items == NULL)
		return -ENOMEM;
	sums->count = lanes->count;
	memcpy(sums->items, lanes->items, lanes->count * sizeof *sums->items);
	for (size_t i = 0; i < sums->count; i++)
		reduce(&sums->items[i].lane);
	merge(sums);
	sort(sums, by_claims);
	return 0;
}

static void keep_laddr(struct tuplebind_lane *lane)
{
	struct tuplebind_lane kept = {.scope = lane->scope};

	memcpy(kept.laddr, lane->laddr, sizeof kept.laddr);
	*lane = kept;
}

static void keep_destination(struct tuplebind_lane *lane)
{
	memset(lane->laddr, 0, sizeof lane->laddr);
}

/* Slabs. */

static int add(struct gathering *g, const struct snapshot_sum *sum)
{
	struct snapshot_sums *lanes = &g->s->lanes;

	if (lanes->count == g->room) {
		size_t room = g->room * 2 + 64;
		struct snapshot_sum *more = reallocarray(lanes->items, room, sizeof *more);

		if (more == NULL)
			return -ENOMEM;
		lanes->items = more;
		g->room = room;
	}
	lanes->items[lanes->count++] = *sum;
	return 0;
}

/* What no program of ours would write is left out, so that lanes that look the same are the same.
 */
static bool is_ours(const struct tuplebind_lane *lane)
{
	return lane->reserved == 0 &&
	       (lane->protocol == IPPROTO_TCP || lane->protocol == IPPROTO_UDP);
}

/* @slab is a copy, which may have been made while the slab changed: then it fits no place. */
static int add_slab(struct gathering *g, const struct tuplebind_slab *slab)
{
	struct snapshot_sum sum = {.lanes = 1};
	bool recycled = atomic_load_explicit(&slab->owner, memory_order_relaxed) != 0;
	unsigned number;

	if (!slab_read(slab, &sum.lane, &number))
		return 0;
	for (unsigned w = 0; w < TUPLEBIND_SLAB_WORDS; w++) {
		uint64_t claims = atomic_load_explicit(&slab->claims[w], memory_order_relaxed);

		if (recycled && claims == UINT64_MAX)
			continue; /* taken over, not claimed (table/slab.h, step 2) */
		sum.claims += (unsigned)__builtin_popcountll(claims);
		sum.outside += (unsigned)__builtin_popcountll(claims & ~g->counted[number][w]);
	}
	uint64_t tag = atomic_load_explicit(&slab->tag, memory_order_relaxed);
	if (sum.claims == 0 || !is_ours(&sum.lane) ||
		!slab_is(tag, slab_key(&g->table, slab_lane_hash(&g->table, &sum.lane), number)))
		return 0;
	g->s->slabs_used++;
	g->s->claims += sum.claims;
	return add(g, &sum);
}

/* From which slab on the file has anything at @index or behind it: tables are mostly empty. */
static uint64_t next_written(const struct gathering *g, uint64_t index)
{
	off_t found = lseek(g->fd, (off_t)table_slab_offset(index), SEEK_DATA);

	if (found < 0)
		return errno == ENXIO ? UINT64_MAX : index;
	return index + ((uint64_t)found - table_slab_offset(index)) / sizeof(struct tuplebind_slab);
}

static int add_slabs(struct gathering *g)
{
	static struct tuplebind_slab chunk[CHUNK_SLABS];
	int error = 0;

	for (uint64_t i = next_written(g, 0); i < g->table.slab_count && error == 0;) {
		ssize_t got = pread(g->fd, chunk, sizeof chunk, (off_t)table_slab_offset(i));
		size_t whole = got > 0 ? (size_t)got / sizeof *chunk : 0;

		if (whole == 0)
			break; /* cut short meanwhile */
		for (size_t k = 0; k < whole && error == 0; k++)
			error = add_slab(g, &chunk[k]);
		i = next_written(g, i + whole);
	}
	return error;
}

/* Which claims are on ports that count, slab by slab. 65,536 steps of the permutation: 1 ms. */
static void note_counted(struct gathering *g)
{
	if (g->s->capacity.source == CAPACITY_UNKNOWN) {
		memset(g->counted, 0xff, sizeof g->counted);
		return;
	}
	for (unsigned position = 0; position < 65536; position++) {
		uint16_t port = permutation_port(&g->table.permutation, (uint16_t)position);
		unsigned bit = position % TUPLEBIND_SLAB_PORTS;

		if (portset_has(&g->s->capacity.ports, port))
			g->counted[position / TUPLEBIND_SLAB_PORTS][bit / 64] |= UINT64_C(1)
										 << (bit % 64);
	}
}

static int add_lanes(struct gathering *g)
{
	struct snapshot *s = g->s;

	note_counted(g);
	int error = add_slabs(g);
	if (error < 0)
		return error;
	merge(&s->lanes);
	for (size_t i = 0; i < s->lanes.count; i++) {
		struct snapshot_sum *lane = &s->lanes.items[i];

		lane->lanes = 1;
		lane->fullest = lane->claims - lane->outside;
	}
	sort(&s->lanes, by_claims);
	error = sum_by(&s->lanes, &s->laddrs, keep_laddr);
	return error < 0 ? error : sum_by(&s->lanes, &s->destinations, keep_destination);
}

/* Processes. */

/* Since Linux 6.2 the size of /proc/PID/fd is the number of descriptors. */
static uint64_t open_files(uint32_t pid)
{
	char path[PROC_PATH_MAX];
	struct stat st;

	proc_path((pid_t)pid, "fd", path);
	return stat(path, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
}

static void describe(const struct reading *r, const struct tuplebind_process *entry, uint32_t pid,
	struct snapshot_process *p)
{
	uint64_t words[2], ticks = (uint64_t)sysconf(_SC_CLK_TCK);

	*p = (struct snapshot_process){.pid = pid};
	for (int i = 0; i < 2; i++)
		words[i] = atomic_load_explicit(&entry->name[i], memory_order_relaxed);
	memcpy(p->name, words, sizeof words);
	make_plain(p->name);
	p->foreign = atomic_load_explicit(&entry->pid_namespace, memory_order_relaxed) !=
		     r->pid_namespace;
	if (p->foreign)
		return;
	uint64_t start = process_start_time((pid_t)pid) / ticks;
	if (start > 0 && start <= r->since_boot)
		p->since = r->now - (r->since_boot - start);
	p->files = open_files(pid);
}

static int by_files(const void *a, const void *b)
{
	const struct snapshot_process *one = a, *other = b;
	int order = (one->files < other->files) - (one->files > other->files);

	return order != 0 ? order : (one->pid > other->pid) - (one->pid < other->pid);
}

static int add_processes(
	const struct reading *r, const struct tuplebind_header *header, struct snapshot *s)
{
	s->processes = calloc(TUPLEBIND_PROCESSES, sizeof *s->processes);
	if (s->processes == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < TUPLEBIND_PROCESSES; i++) {
		const struct tuplebind_process *entry = &header->processes[i];
		uint32_t pid = atomic_load_explicit(&entry->pid, memory_order_relaxed);

		if (pid == 0 || !process_alive(entry))
			continue;
		struct snapshot_process *p = &s->processes[s->process_count++];
		describe(r, entry, pid, p);
		if (!p->foreign)
			capacity_add_process(&s->capacity, r->base, s->here, (pid_t)pid);
	}
	qsort(s->processes, s->process_count, sizeof *s->processes, by_files);
	return 0;
}

/* Tables. */

static void snapshot_free(struct snapshot *s)
{
	free(s->lanes.items);
	free(s->laddrs.items);
	free(s->destinations.items);
	free(s->processes);
}

static int gather(const struct reading *r, struct gathering *g)
{
	struct snapshot *s = g->s;
	const struct tuplebind_header *header = g->table.header;
	const struct tuplebind_identity *id = &g->table.identity;

	s->netns = id->netns;
	s->here = id->netns == r->here.inode &&
		  (r->here.cookie == 0 || id->netns_cookie == r->here.cookie);
	s->slabs = g->table.slab_count;
	s->size = table_slab_offset(s->slabs);
	s->created = id->created;
	s->age = id->created <= r->now ? r->now - id->created : 0;
	s->strays = atomic_load_explicit(&header->strays, memory_order_relaxed);
	for (int i = 0; i < TUPLEBIND_COUNTERS; i++)
		s->counters[i] = table_counter(&g->table, (enum tuplebind_counter)i);
	int error = add_processes(r, header, s);
	capacity_end(&s->capacity, r->base, s->here);
	return error < 0 ? error : add_lanes(g);
}

static void name(struct snapshot *s, const char *file)
{
	tablefile_name(file, s->name);
	make_plain(s->name);
	make_id(file, s->id);
}

static int take(
	const struct reading *r, const struct tablefile *t, struct snapshot *s, struct fault *f)
{
	struct gathering g = {.s = s};

	*s = (struct snapshot){.size = 0};
	name(s, t->file);
	int error = table_open_unmapped(&g.table, t->path, &g.fd, f);
	if (error < 0)
		return error;
	error = gather(r, &g);
	table_detach(&g.table);
	close(g.fd);
	if (error < 0) {
		snapshot_free(s);
		fault_set(f, "table %s: %s", t->path, strerror(-error));
	}
	return error;
}

/* Others' tables: a child takes the snapshot and sends it. */

#define SENT_MOST (UINT64_C(1) << 20) /* of a table's lanes, addresses and destinations each */

static void limit_sums(struct snapshot_sums *sums)
{
	if (sums->count > SENT_MOST)
		sums->count = SENT_MOST;
}

static bool send_sums(int fd, const struct snapshot_sums *sums)
{
	return io_write_all(fd, sums->items, sums->count * sizeof *sums->items);
}

/* In the child: an error and its fault, and for 0 the snapshot with what it points to. */
static bool send_snapshot(int fd, int error, struct snapshot *s, const struct fault *f)
{
	if (!io_write_all(fd, &error, sizeof error) || !io_write_all(fd, f, sizeof *f) || error < 0)
		return error < 0;
	limit_sums(&s->lanes);
	limit_sums(&s->laddrs);
	limit_sums(&s->destinations);
	return io_write_all(fd, s, sizeof *s) && send_sums(fd, &s->lanes) &&
	       send_sums(fd, &s->laddrs) && send_sums(fd, &s->destinations) &&
	       io_write_all(fd, s->processes, s->process_count * sizeof *s->processes);
}

/* The child reads what another user wrote, so what comes from it is looked at as well. */

static void *receive_items(int fd, size_t count, size_t most, size_t size)
{
	void *items = count <= most ? calloc(count + 1, size) : NULL;

	if (items != NULL && !io_read_all(fd, items, count * size)) {
		free(items);
		return NULL;
	}
	return items;
}

static bool receive_sums(int fd, struct snapshot_sums *sums, size_t count)
{
	sums->items = receive_items(fd, count, SENT_MOST, sizeof *sums->items);
	sums->count = count;
	return sums->items != NULL;
}

static bool receive_parts(int fd, struct snapshot *s, const struct snapshot *sent)
{
	if (!receive_sums(fd, &s->lanes, sent->lanes.count) ||
		!receive_sums(fd, &s->laddrs, sent->laddrs.count) ||
		!receive_sums(fd, &s->destinations, sent->destinations.count))
		return false;
	s->processes =
		receive_items(fd, sent->process_count, TUPLEBIND_PROCESSES, sizeof *s->processes);
	if (s->processes == NULL)
		return false;
	s->process_count = sent->process_count;
	for (size_t i = 0; i < s->process_count; i++) {
		s->processes[i].name[sizeof s->processes[i].name - 1] = '\0';
		make_plain(s->processes[i].name);
	}
	return true;
}

/* 0, the child's -errno with its fault, or -EIO: it ended before it had sent all. */
static int receive_snapshot(int fd, const char *file, struct snapshot *s, struct fault *f)
{
	struct snapshot sent;
	int error;

	*s = (struct snapshot){.size = 0};
	if (!io_read_all(fd, &error, sizeof error) || !io_read_all(fd, f, sizeof *f))
		return -EIO;
	f->text[sizeof f->text - 1] = '\0';
	make_plain(f->text);
	if (error < 0)
		return error;
	if (!io_read_all(fd, &sent, sizeof sent) || sent.capacity.source > CAPACITY_GIVEN)
		return -EIO;
	*s = sent;
	s->lanes = s->laddrs = s->destinations = (struct snapshot_sums){.count = 0};
	s->processes = NULL;
	s->process_count = 0;
	name(s, file);
	if (receive_parts(fd, s, &sent))
		return 0;
	snapshot_free(s);
	return -EIO;
}

static int take_apart(
	const struct reading *r, const struct tablefile *t, struct snapshot *s, struct fault *f)
{
	struct fault ended = {.text = "its reader said nothing"};
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0) {
		int error = errno;
		fault_set(f, "table %s: %s", t->path, strerror(error));
		return -error;
	}
	pid_t child = apart_fork(&t->st, &ended);
	if (child == 0) {
		struct fault fault = {.text = ""};
		int error = take(r, t, s, &fault);

		_exit(send_snapshot(ends[1], error, s, &fault) ? 0 : EXIT_TUPLEBIND);
	}
	close(ends[1]);
	int error = child < 0 ? -EIO : receive_snapshot(ends[0], t->file, s, f);
	close(ends[0]);
	if (child > 0)
		apart_wait(child, &ended);
	if (error == -EIO)
		fault_set(f, "table %s: %s", t->path, ended.text);
	return error;
}

static void start_reading(struct reading *r, const struct capacity_base *base)
{
	struct stat st;

	*r = (struct reading){.base = base, .now = (uint64_t)time(NULL)};
	if (netns_current(&r->here) < 0)
		r->here = (struct netns){.inode = 0};
	if (stat("/proc/self/ns/pid", &st) == 0)
		r->pid_namespace = st.st_ino;
	r->since_boot = clock_ms(CLOCK_BOOTTIME) / 1000;
}

/* Of the namespace that somebody looks from first: that is where the trouble is, as a rule. */
static int put_first_things_first(struct snapshots *all)
{
	struct snapshot *sorted = calloc(all->count + 1, sizeof *sorted);
	size_t count = 0;

	if (sorted == NULL)
		return -ENOMEM;
	for (int here = 1; here >= 0; here--)
		for (size_t i = 0; i < all->count; i++)
			if (all->tables[i].here == here)
				sorted[count++] = all->tables[i];
	free(all->tables);
	all->tables = sorted;
	return 0;
}

/* One file, if it is asked for. */
static void take_one(void *context, const struct tablefile *t)
{
	struct reading *r = context;
	struct snapshots *all = r->all;

	if (t->others && !r->all_users) {
		all->others++;
		return;
	}
	struct snapshot *tables = reallocarray(all->tables, all->count + 1, sizeof *tables);
	if (tables != NULL)
		all->tables = tables;
	struct fault *faults = reallocarray(all->faults, all->fault_count + 1, sizeof *faults);
	if (faults != NULL)
		all->faults = faults;
	if (tables == NULL || faults == NULL) {
		r->error = -ENOMEM;
		return;
	}
	struct snapshot *s = &tables[all->count];
	struct fault *f = &faults[all->fault_count];
	int error = t->others ? take_apart(r, t, s, f) : take(r, t, s, f);
	if (error == 0)
		all->count++;
	else if (error != -ENOENT)
		all->fault_count++;
}

int snapshots_take(
	struct snapshots *all, const struct capacity_base *base, bool all_users, struct fault *f)
{
	struct reading reading;

	*all = (struct snapshots){.count = 0};
	start_reading(&reading, base);
	reading.all = all;
	reading.all_users = all_users;
	int error = tablefile_each(take_one, &reading);
	if (error < 0) {
		fault_set(f, "%s: %s", TABLE_DIRECTORY, strerror(-error));
		return error;
	}
	error = reading.error < 0 ? reading.error : put_first_things_first(all);
	if (error < 0)
		fault_set(f, "%s", strerror(-error));
	return error;
}

int snapshots_take_told(
	struct snapshots *all, const char *subcommand, const char *ports, bool all_users)
{
	struct capacity_base base;
	struct fault fault;

	if (capacity_base_read(&base, ports, &fault) < 0)
		return command_usage(subcommand, "--ports: %s", fault.text);
	if (snapshots_take(all, &base, all_users, &fault) < 0) {
		snapshots_free(all);
		return command_fail("%s: %s", subcommand, fault.text);
	}
	for (size_t i = 0; i < all->fault_count; i++)
		command_fail("%s: %s", subcommand, all->faults[i].text);
	return 0;
}

void snapshots_free(struct snapshots *all)
{
	for (size_t i = 0; i < all->count; i++)
		snapshot_free(&all->tables[i]);
	free(all->tables);
	free(all->faults);
	*all = (struct snapshots){.count = 0};
}

void snapshot_sort_by_lane(struct snapshot *s)
{
	sort(&s->lanes, by_lane);
	sort(&s->laddrs, by_lane);
	sort(&s->destinations, by_lane);
}

const struct snapshot_sum *snapshot_find(
	const struct snapshot_sums *sums, const struct tuplebind_lane *lane)
{
	struct snapshot_sum wanted = {.lane = *lane};

	return sums->count == 0
		       ? NULL
		       : bsearch(&wanted, sums->items, sums->count, sizeof wanted, by_lane);
}

static int permille(uint64_t part, uint64_t lanes, unsigned ports)
{
	return ports == 0 || lanes == 0 ? -1 : (int)(part * 1000 / (lanes * ports));
}

int snapshot_permille(const struct snapshot *s, const struct snapshot_sum *sum)
{
	return permille(sum->claims - sum->outside, sum->lanes, s->capacity.count);
}

int snapshot_permille_fullest(const struct snapshot *s, const struct snapshot_sum *sum)
{
	return permille(sum->fullest, 1, s->capacity.count);
}
