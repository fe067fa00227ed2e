/*
 * tuplebind config: which settings are in force, and where each came from.
 *
 * Of this command's environment, file and options, as `tuplebind run` would take them; or of a
 * running process, as its environment was when it started. Whether the library is there and has
 * a table shows in the files that the process has mapped.
 */
#include "tools/common/command.h"
#include "tools/common/options.h"
#include "tools/common/portrange.h"
#include "tools/common/proc.h"
#include "tools/config/settings.h"
#include "tools/subcommands.h"

#include "choose/ports.h"
#include "kernel/sysctl.h"
#include "table/table.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct request {
	struct settings settings;
	const char *pid;
};

static const struct option_row rows[] = {
	OPTION_TEXT(struct request, pid, "pid", "PID", "what a running process was started with"),
	OPTION_END,
};

static const struct options options = {
	.subcommand = "config",
	.usage = "usage: tuplebind config [OPTION...]\n"
		 "       tuplebind config --pid PID\n"
		 "\n"
		 "Shows each variable with the value in force and where it came from: an option,\n"
		 "FILE:LINE, the environment, or else it is the default. A line for each rule.\n"
		 "\n",
	.column = 20,
	.in_order = true,
	.groups = {{rows, 0}, SETTINGS_OPTIONS(struct request)},
};

/* One line of the output, given to a visitor. */
struct row {
	const char *variable, *from, *value;
};

typedef void row_visit(const struct row *row, void *context);

static void note_width(const struct row *row, void *context)
{
	int *width = context, length = (int)strlen(row->from);

	if (length > *width)
		*width = length;
}

static void print_row(const struct row *row, void *context)
{
	const int *width = context;

	command_line("%-21s %-*s  %s", row->variable, *width, row->from, row->value);
}

/* The rules, each with its line when they come from the file. */
static void visit_rules(const struct settings *s, const char *variable, const char *rules,
	row_visit *visit, void *context)
{
	size_t size = strlen(rules) + 1;
	char *item = malloc(size);
	unsigned number = 0;

	while (item != NULL && parse_next(&rules, ';', item, size) != 0) {
		if (item[0] == '\0')
			continue;
		char *place = setting_place(s, setting_find("rules"), number);
		struct row row = {number > 0 ? "" : variable, place ? place : "", item};
		visit(&row, context);
		free(place);
		number++;
	}
	free(item);
}

/* "auto (28232 ports of 32768-60999)", where the kernel's range is the one of this namespace. */
static int ports_text(const char *value, bool here, char **text)
{
	struct portset range, offered, wanted;
	struct ports ports;
	struct fault unused;

	if (!here || ports_parse(value, &ports, &unused) < 0 || sysctl_ports(&range, &offered) < 0)
		return asprintf(text, "%s", value);
	ports_resolve(&ports, &offered, &wanted);
	unsigned count = portset_count(&wanted);
	const char *word = count == 1 ? "port" : "ports";
	if (!ports.automatic)
		return asprintf(text, "%s (%u %s)", value, count, word);
	return asprintf(text, "%s (%u %s of %u-%u)", value, count, word, ports_first(&range),
		ports_last(&range));
}

static void visit_rows(const struct settings *s, bool here, row_visit *visit, void *context)
{
	for (unsigned i = 0; i < SETTINGS; i++) {
		const struct setting *setting = &s->of[i];
		const struct setting_kind *kind = &setting_kinds[i];
		bool set = setting->value != NULL && setting->value[0] != '\0';
		const char *value = set ? setting->value : kind->preset;
		char variable[SETTING_NAME_MAX], *text = NULL;

		setting_name(i, variable);
		char *place = setting_place(s, (int)i, 0);
		if (strcmp(setting_rows[i].name, "ports") == 0 &&
			ports_text(value, here, &text) < 0)
			text = NULL;
		struct row row = {variable, place ? place : "", text ? text : value};
		if (set && kind->form == SETTING_RULES)
			visit_rules(s, variable, value, visit, context);
		else
			visit(&row, context);
		free(place);
		free(text);
	}
}

/* @here: in the network namespace of this command. */
static int print_settings(const struct settings *s, bool here)
{
	struct row head = {"variable", "from", "value"};
	int width = 0;

	note_width(&head, &width);
	visit_rows(s, here, note_width, &width);
	print_row(&head, &width);
	visit_rows(s, here, print_row, &width);
	return command_flush("config");
}

static FILE *open_of(pid_t pid, const char *name)
{
	FILE *file = proc_open(pid, name);

	if (file == NULL && errno == ENOENT)
		command_fail("config: there is no process %d", (int)pid);
	else if (file == NULL)
		command_fail("config: /proc/%d/%s: %s; accepted: a process of this user", (int)pid,
			name, strerror(errno));
	return file;
}

/* Makes the environment of a process the one of this process. */
static int take_environment(pid_t pid)
{
	FILE *file = open_of(pid, "environ");
	char *item = NULL;
	size_t size = 0;
	bool sound = true;

	if (file == NULL)
		return EXIT_TUPLEBIND;
	clearenv();
	errno = 0;
	while (sound && getdelim(&item, &size, '\0', file) > 0) {
		char *equals = strchr(item, '=');

		sound = equals != NULL;
		if (sound)
			*equals = '\0';
		if (sound && item[0] != '\0' && setenv(item, equals + 1, 1) < 0)
			break;
	}
	int error = errno;
	free(item);
	fclose(file);
	if (!sound)
		return command_fail(
			"config: process %d has written over its environment, as programs do "
			"that show a title in ps; what it was started with cannot be told",
			(int)pid);
	return error == 0 ? 0
			  : command_fail("config: /proc/%d/environ: %s", (int)pid, strerror(error));
}

/* The file of one line of /proc/PID/maps, "" for a line without one. */
static const char *mapped_file(char *line)
{
	char *path = strchr(line, '/');

	line[strcspn(line, "\n")] = '\0';
	return path != NULL ? path : "";
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* Says in one line what the library does in a process. */
static int print_service(pid_t pid, const char *table)
{
	FILE *file = open_of(pid, "maps");
	char library[PATH_MAX] = "", mapped_table[PATH_MAX] = "";
	char *line = NULL;
	size_t size = 0;

	if (file == NULL)
		return EXIT_TUPLEBIND;
	while (getline(&line, &size, file) > 0) {
		const char *path = mapped_file(line), *name = strrchr(path, '/');

		if (name != NULL && begins(name, "/libtuplebind.so"))
			snprintf(library, sizeof library, "%s", path);
		else if (begins(path, TABLE_DIRECTORY "/" TABLE_PREFIX))
			snprintf(mapped_table, sizeof mapped_table, "%s", path);
	}
	free(line);
	fclose(file);
	if (library[0] == '\0')
		printf("process %d has no tuplebind loaded\n", (int)pid);
	else if (mapped_table[0] != '\0')
		printf("process %d has %s loaded, with table %s\n", (int)pid, library,
			mapped_table);
	else if (table != NULL && strcmp(table, TABLE_PRIVATE) == 0)
		printf("process %d has %s loaded, with a private table or none\n", (int)pid,
			library);
	else
		printf("process %d has %s loaded, with no table: it runs without tuplebind\n",
			(int)pid, library);
	return 0;
}

static bool same_namespace(pid_t pid)
{
	struct stat ours, theirs;
	char path[PROC_PATH_MAX];

	proc_path(pid, "ns/net", path);
	return stat("/proc/self/ns/net", &ours) == 0 && stat(path, &theirs) == 0 &&
	       ours.st_ino == theirs.st_ino;
}

static int show_process(const struct settings *given, const char *text)
{
	static const char only[] = "--pid shows what a process has; no other option goes with it";
	static struct settings settings;
	uint64_t pid;
	int error;

	for (unsigned i = 0; i < SETTINGS; i++)
		if (given->file != NULL || given->of[i].origin == SETTING_OPTION)
			return command_usage("config", "%s", only);
	if (parse_number(text, 1, INT32_MAX, &pid) < 0)
		return command_usage("config", "--pid: \"%.60s\" is not a process id", text);
	if ((error = take_environment((pid_t)pid)) != 0)
		return error;
	settings_start(&settings, "config");
	if ((error = print_service((pid_t)pid, getenv("TUPLEBIND_TABLE"))) != 0)
		return error;
	return print_settings(&settings, same_namespace((pid_t)pid));
}

int config_main(int argc, char **argv)
{
	static struct request r;
	struct config config;
	int error;

	settings_start(&r.settings, "config");
	if (!options_read(&options, &r, argc, argv, &error))
		return error;
	if (r.pid != NULL)
		return show_process(&r.settings, r.pid);
	error = settings_apply(&r.settings, &config);
	return error != 0 ? error : print_settings(&r.settings, true);
}
