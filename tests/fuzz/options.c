/*
 * Options, numbers and times as the command takes them, and the terms of a lease.
 *
 * The input is the words of a command line, a line each, and behind a form feed (0x0c) the
 * configuration file. The first word is a subcommand: status and metrics run as they are, on a host
 * without tables; any other one gathers settings as tuplebind run does, up to where it would start
 * the program, and with --lease as tuplebind-lease does.
 *
 * Settings that are accepted are accepted a second time; and with a lease each part of the ports
 * leaves the addresses and rules as they were, while all parts together are the ports given.
 */
#include "fuzz.h"

#include "choose/plan.h"
#include "tools/lease/terms.h"
#include "tools/run/lease.h"
#include "tools/subcommands.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORDS 32
#define PARTS 3

static int file;

int __wrap_scandir64(const char *directory, struct dirent64 ***files);

int __wrap_scandir64(const char *directory, struct dirent64 ***files)
{
	*files = NULL;
	return 0;
}

int __wrap_open64(const char *path, int flags, ...);

/* Any file is the input's. */
int __wrap_open64(const char *path, int flags, ...)
{
	fuzz_check(lseek(file, 0, SEEK_SET) == 0);
	return dup(file);
}

int __wrap_mkstemp64(char *path);

int __wrap_mkstemp64(char *path)
{
	errno = EROFS;
	return -1;
}

unsigned __wrap_if_nametoindex(const char *name);

unsigned __wrap_if_nametoindex(const char *name)
{
	return 0;
}

static long kernel(long number, const long a[static 6])
{
	if (number != SYS_socket && number != SYS_openat)
		return FUZZ_REAL;
	errno = number == SYS_socket ? EAFNOSUPPORT : ENOENT;
	return -1;
}

/* Settings. */

static void make_plan(struct plan *p)
{
	struct config config;
	struct fault f = {.text = ""};

	fuzz_check(config_read(&config, &f) == 0, "%s", f.text);
	/* Nobody looks at what a library does that does nothing. */
	config.disabled = false;
	fuzz_check(plan_make(p, &config, &f) == 0, "%s", f.text);
}

static void check_same_pool(const struct pool *one, const struct pool *other)
{
	fuzz_check(one->part_count == other->part_count);
	for (unsigned i = 0; i < one->part_count; i++)
		fuzz_check(addr_equal(&one->parts[i].first, &other->parts[i].first) &&
			   one->parts[i].size == other->parts[i].size);
}

static void check_same_rules(const struct plan *one, const struct plan *other)
{
	fuzz_check(one->rule_count == other->rule_count);
	for (unsigned i = 0; i < one->rule_count; i++) {
		fuzz_check(one->rules[i].skip == other->rules[i].skip);
		check_same_pool(&one->rules[i].pool, &other->rules[i].pool);
	}
}

static void check_parts(const struct slices *s)
{
	unsigned count = s->count != 0 ? s->count : PARTS;
	struct fault f = {.text = ""};
	struct portset before, all, some;
	struct plan whole, part;

	if (slices_fit(s, count, &f) < 0) {
		fuzz_check_line(f.text);
		return;
	}
	/* Where -EINVAL is told, it is so for a value that the library would not take. */
	fuzz_check(setenv("TUPLEBIND_PORTS", s->ports, 1) == 0 &&
		   setenv("TUPLEBIND_RULES", s->rules, 1) == 0);
	fuzz_check(slices_ports(&before, &f) == 0, "%s", f.text);
	make_plan(&whole);
	portset_clear(&all);
	for (unsigned k = 1; k <= count && k <= PARTS; k++) {
		fuzz_check(slices_set(s, count, k, &f) == 0, "%s", f.text);
		fuzz_check(slices_ports(&some, &f) == 0, "%s", f.text);
		portset_add(&all, &some);
		portset_remove(&some, &before);
		fuzz_check(portset_count(&some) == 0);
		make_plan(&part);
		check_same_rules(&whole, &part);
		plan_free(&part);
	}
	fuzz_check(count > PARTS || memcmp(&all, &before, sizeof all) == 0);
	plan_free(&whole);
}

static void lease(void)
{
	struct fault f = {.text = ""};
	struct terms terms;
	int error = terms_read(&terms, &f);

	if (error < 0)
		fuzz_check_line(f.text);
	else if (!terms.config.disabled)
		check_parts(&terms.slices);
	fuzz_check(error != 0 || (terms.ttl >= 5 && terms.ttl <= 86400));
	fuzz_check(error != 0 || strncmp(terms.url.base, "http", 4) == 0);
	terms_free(&terms);
}

static void check_settings(struct settings *s)
{
	struct config config;
	char *why = NULL;

	if (settings_take(s, &config, &why) == 0) {
		struct fault f = {.text = ""};
		struct plan plan;

		fuzz_check(config_read(&config, &f) == 0, "%s", f.text);
		if (!config.disabled) {
			make_plan(&plan);
			plan_free(&plan);
		}
		for (unsigned i = 0; i < SETTINGS; i++) {
			char *place = setting_place(s, (int)i, 0);

			fuzz_check(place != NULL);
			free(place);
		}
		if (lease_wanted())
			lease();
	} else {
		fuzz_check(why != NULL && strchr(why, '\n') == NULL, "%s", why);
	}
	free(why);
}

struct request {
	struct settings settings;
};

static void gather_settings(int count, char **words)
{
	static const struct options options = {
		.subcommand = "fuzz",
		.usage = "",
		.words = OPTIONS_PROGRAM,
		.groups = {SETTINGS_OPTIONS(struct request), {lease_rows, 0}},
	};
	struct request r;
	struct settings *s = &r.settings;
	int error;

	settings_start(s, "fuzz");
	bool taken = options_read(&options, &r, count, words, &error);
	const char *ports = s->of[1].value;
	if (taken && lease_wanted())
		taken = lease_take_parts(s) == 0;
	char *list = s->of[1].value != ports ? (char *)s->of[1].value : NULL;
	if (taken)
		check_settings(s);
	for (unsigned i = 0; i < SETTINGS; i++)
		if (s->of[i].origin == SETTING_FILE)
			free((char *)s->of[i].value);
	free(list);
	free(s->rule_lines);
}

static void run(int count, char **words)
{
	optind = 0;
	if (count == 0)
		return;
	if (strcmp(words[0], "status") == 0)
		status_main(count, words);
	else if (strcmp(words[0], "metrics") == 0)
		metrics_main(count, words);
	else
		gather_settings(count, words);
}

/* Each line that is told is one. */
static void run_quietly(int count, char **words)
{
	FILE *out = stdout, *err = stderr;
	char *told = NULL, *complained = NULL;
	size_t sizes[2];

	stdout = open_memstream(&told, &sizes[0]);
	stderr = open_memstream(&complained, &sizes[1]);
	fuzz_check(stdout != NULL && stderr != NULL);
	run(count, words);
	fuzz_check(fclose(stdout) == 0 && fclose(stderr) == 0);
	stdout = out;
	stderr = err;
	fuzz_check(complained[0] == '\0' || strncmp(complained, "tuplebind: ", 11) == 0);
	free(told);
	free(complained);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	char *words[WORDS + 1] = {NULL};
	int count = 0;

	fuzz_kernel = kernel;
	fuzz_random_start();
	if (file == 0) {
		file = fuzz_file();
		/* metrics --http asks nobody. */
		int nothing = open("/dev/null", O_RDWR);
		fuzz_check(nothing >= 0 && dup2(nothing, STDIN_FILENO) == STDIN_FILENO);
	}
	clearenv();
	char *line = input_text(&in, '\f');
	fuzz_file_set(file, in.at, in.left);
	in = (struct input){(const uint8_t *)line, line != NULL ? strlen(line) : 0};
	while (count < WORDS && (words[count] = input_text(&in, '\n')) != NULL)
		count++;
	/* getopt_long() puts them into another order. */
	char *owned[WORDS];
	memcpy(owned, words, sizeof owned);
	words[count] = NULL;
	run_quietly(count, words);
	for (int i = 0; i < count; i++)
		free(owned[i]);
	free(line);
	return 0;
}
