/*
 * What the tools make of a table file that was scribbled over: status, its JSON, the metrics, and
 * the rows of top.
 *
 * The input is damage (damage.h), the file's size and name, and what the attached processes say of
 * themselves in /proc. Whatever stands in shared memory, the tools print plain text, JSON that can
 * be read, metrics that end, and sums that add up.
 */
#include "damage.h"

#include "tools/status/openmetrics.h"
#include "tools/status/statusjson.h"
#include "tools/status/top/top.h"
#include "tools/subcommands.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int file;
static char name[NAME_MAX + 1];
static char *environment; /* of the attached processes */

static long kernel(long number, const long a[static 6])
{
	const char *path = (const char *)a[1];

	switch (number) {
	case SYS_openat:
		if (strncmp(path, "/dev/shm/", 9) == 0)
			return dup(file);
		errno = ENOENT;
		return -1;
	case SYS_newfstatat: /* whose it is: this user's */
		if (path[0] != '/')
			return FUZZ_REAL;
		*(struct stat *)a[2] = (struct stat){.st_uid = geteuid()};
		return 0;
	case SYS_socket:
		errno = EAFNOSUPPORT;
		return -1;
	default:
		return FUZZ_REAL;
	}
}

int __wrap_stat64(const char *path, struct stat64 *st);

/* Namespaces, and how many descriptors a process has. */
int __wrap_stat64(const char *path, struct stat64 *st)
{
	*st = (struct stat64){.st_ino = strstr(path, "/ns/net") ? damage_netns.inode : 3,
		.st_size = (off64_t)strlen(path)};
	return 0;
}

FILE *__wrap_fopen64(const char *path, const char *mode);

FILE *__wrap_fopen64(const char *path, const char *mode)
{
	size_t length = strlen(environment);

	/* As in /proc the items end with a NUL; the input has new lines. */
	FILE *to = fmemopen(NULL, length + 1, "w+");
	fuzz_check(to != NULL);
	for (size_t i = 0; i < length; i++)
		putc(environment[i] == '\n' ? '\0' : environment[i], to);
	rewind(to);
	return to;
}

int __wrap_scandir64(const char *directory, struct dirent64 ***files,
	int filter(const struct dirent64 *),
	int compare(const struct dirent64 **, const struct dirent64 **));

int __wrap_scandir64(const char *directory, struct dirent64 ***files,
	int filter(const struct dirent64 *),
	int compare(const struct dirent64 **, const struct dirent64 **))
{
	struct dirent64 *one = calloc(1, sizeof *one);

	*files = calloc(1, sizeof **files);
	fuzz_check(one != NULL && *files != NULL);
	memcpy(one->d_name, name, sizeof name);
	if (!filter(one)) {
		free(one);
		return 0;
	}
	(*files)[0] = one;
	return 1;
}

/* Runs what prints to stdout; the caller frees the text. */
static char *printed(void print(void *context), void *context, size_t *length)
{
	FILE *out = stdout, *err = stderr;
	char *text = NULL, *complaints = NULL;
	size_t unused;

	stdout = open_memstream(&text, length);
	stderr = open_memstream(&complaints, &unused);
	fuzz_check(stdout != NULL && stderr != NULL);
	print(context);
	fuzz_check(fclose(stdout) == 0 && fclose(stderr) == 0);
	stdout = out;
	stderr = err;
	fuzz_check(complaints[0] == '\0' || strncmp(complaints, "tuplebind: ", 11) == 0);
	free(complaints);
	for (size_t i = 0; i < *length; i++)
		fuzz_check((text[i] >= ' ' && text[i] <= '~') || text[i] == '\n', "in: %s", text);
	return text;
}

static void print_status(void *context)
{
	char word[] = "status", *arguments[] = {word, NULL};

	optind = 0;
	status_main(1, arguments);
}

static void print_json(void *context)
{
	status_print_json(context, true, UINT64_MAX);
}

static void print_metrics(void *context)
{
	static const struct openmetrics_limits limits = {20, 20, 20};

	openmetrics_write(stdout, context, &limits);
}

static uint64_t claims_of(const struct snapshot_sums *sums)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < sums->count; i++) {
		fuzz_check(sums->items[i].outside <= sums->items[i].claims &&
			   sums->items[i].claims > 0 && sums->items[i].lanes > 0);
		fuzz_check(i == 0 || sums->items[i - 1].claims >= sums->items[i].claims);
		sum += sums->items[i].claims;
	}
	return sum;
}

static void check_snapshot(const struct snapshot *s)
{
	fuzz_check_line(s->name);
	fuzz_check(s->slabs_used <= s->slabs && s->claims <= s->slabs * TUPLEBIND_SLAB_PORTS);
	fuzz_check(claims_of(&s->lanes) == s->claims && claims_of(&s->laddrs) == s->claims &&
		   claims_of(&s->destinations) == s->claims);
	fuzz_check(s->process_count <= TUPLEBIND_PROCESSES);
	for (size_t i = 0; i < s->process_count; i++)
		fuzz_check_line(s->processes[i].name);
	fuzz_check(s->capacity.count == portset_count(&s->capacity.ports));
}

static void check_json(struct snapshots *all)
{
	size_t length;
	json_error_t error;
	char *text = printed(print_json, all, &length);
	json_t *json =
		json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error);

	fuzz_check(json != NULL, "%s in: %s", error.text, text);
	fuzz_check(json_array_size(json_object_get(json, "tables")) == all->count);
	json_decref(json);
	free(text);
}

static void check_metrics(struct snapshots *all)
{
	static const char end[] = "# EOF\n";
	size_t length;
	char *text = printed(print_metrics, all, &length);

	fuzz_check(length > strlen(end) && strcmp(text + length - strlen(end), end) == 0);
	for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1)
		fuzz_check(*line == '#' || strncmp(line, "tuplebind_", 10) == 0, "%s", line);
	free(text);
}

static void check_top(struct top *top, const char *filter)
{
	top->seconds = 1;
	snprintf(top->filter, sizeof top->filter, "%s", filter != NULL ? filter : "");
	top_choose_table(top);
	for (int view = 0; view < VIEWS; view++) {
		top->view = (enum view)view;
		for (int sorting = 0; sorting < SORTINGS; sorting++) {
			struct text t;

			top->sorting = (enum sorting)sorting;
			rows_make(top);
			for (size_t i = 0; i < top->row_count; i++) {
				row_text(top, &top->rows[i], &t);
				fuzz_check_line(t.bytes);
			}
		}
	}
	top_next_table(top);
	free(top->rows);
}

/* Takes a snapshot of the one file, and frees it when @use has been called. */
static void snapshot(void use(struct snapshots *all))
{
	struct capacity_base base;
	struct snapshots all;
	struct fault f;

	fuzz_check(capacity_base_read(&base, NULL, &f) == 0);
	fuzz_check(snapshots_take(&all, &base, false, &f) == 0);
	fuzz_check(all.count + all.fault_count <= 1);
	for (size_t i = 0; i < all.count; i++)
		check_snapshot(&all.tables[i]);
	for (size_t i = 0; i < all.fault_count; i++)
		fuzz_check_line(all.faults[i].text);
	use(&all);
	snapshots_free(&all);
}

static void check_status(void)
{
	size_t length;

	free(printed(print_status, NULL, &length));
}

/* Two looks, with some more damage between them, for the rates. */
static void watch(struct input *in, void *memory, const char *filter)
{
	struct top top = {.filter = ""};
	struct fault f;

	fuzz_check(capacity_base_read(&top.base, NULL, &f) == 0);
	fuzz_check(snapshots_take(&top.before, &top.base, false, &f) == 0);
	for (size_t i = 0; i < top.before.count; i++)
		snapshot_sort_by_lane(&top.before.tables[i]);
	if (memory != NULL)
		damage_do(memory, in);
	fuzz_check(snapshots_take(&top.now, &top.base, false, &f) == 0);
	check_top(&top, filter);
	snapshots_free(&top.before);
	snapshots_free(&top.now);
}

/* One of the readers: each costs some milliseconds. */
static void look(unsigned reader, struct input *in, void *memory, const char *filter)
{
	switch (reader % 4) {
	case 0:
		check_status();
		break;
	case 1:
		snapshot(check_json);
		break;
	case 2:
		snapshot(check_metrics);
		break;
	default:
		watch(in, memory, filter);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void *memory;
	struct input in = {data, size};

	fuzz_kernel = kernel;
	if (memory == NULL)
		memory = damage_file(&file);
	/* A file with holes is no table. */
	fuzz_check(ftruncate(file, DAMAGE_SIZE) == 0 && posix_fallocate(file, 0, DAMAGE_SIZE) == 0);
	damage_undo(memory);
	fuzz_random_start();
	/* Texts first: the name behind the namespace, a filter of top, an environment. */
	char *table = input_text(&in, '\n'), *filter = input_text(&in, '\n');
	environment = input_text(&in, '\v');
	snprintf(name, sizeof name, TABLE_PREFIX "0.%llu%s", (unsigned long long)damage_netns.inode,
		table != NULL ? table : "");
	uint8_t how = input_8(&in);
	unsigned reader = how >> 1;
	for (unsigned i = how >> 3; i > 0; i--)
		damage_do(memory, &in);
	if (how & 1)
		fuzz_check(ftruncate(file, input_32(&in) % (2 * DAMAGE_SIZE)) == 0);
	if (environment == NULL)
		environment = strdup("");
	/* Nothing can be written behind the end of a short file. */
	look(reader, &in, how & 1 ? NULL : memory, filter);
	free(table);
	free(filter);
	free(environment);
	return 0;
}
