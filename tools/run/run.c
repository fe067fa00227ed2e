/*
 * tuplebind run: puts the library in front of a program and becomes that program.
 *
 * Options and the configuration file are the environment variables by another name. All are
 * checked here, before the program starts, so that a mistyped pool does not start a program without
 * one.
 */
#include "tools/common/command.h"
#include "tools/common/options.h"
#include "tools/common/preload.h"
#include "tools/common/program.h"
#include "tools/config/settings.h"
#include "tools/run/lease.h"
#include "tools/subcommands.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

struct request {
	struct settings settings;
};

static const struct options options = {
	.subcommand = "run",
	.usage = "usage: tuplebind run [OPTION...] [--] PROGRAM [ARGUMENT...]\n"
		 "Starts PROGRAM under libtuplebind.so. Options are the variables TUPLEBIND_NAME.\n"
		 "\n",
	.notes = "Exit status: the program's; 125 tuplebind failed, 126 cannot run it, 127 no "
		 "such\n",
	.column = 20,
	.words = OPTIONS_PROGRAM,
	.groups = {SETTINGS_OPTIONS(struct request), {lease_rows, 0}},
};

/* Says so when the program will not be served; an exit code when it then must not run. */
static int check_program(
	const char *name, const struct config *config, enum program_service *service)
{
	char path[PATH_MAX], subject[PATH_MAX + 32] = "it";
	struct program p = {.service = PROGRAM_SERVED};

	if (program_find(name, path))
		program_examine(&p, path);
	*service = p.service;
	if (p.service == PROGRAM_SERVED || config->disabled)
		return 0;
	if (strcmp(p.file, path) != 0)
		snprintf(subject, sizeof subject, "its interpreter %s", p.file);
	if (p.service == PROGRAM_IN_PART) {
		if (config->log_level >= LOG_WARN)
			command_fail("run: %s may connect unseen: %s %s; %s", path, subject, p.why,
				p.remedy);
		return 0;
	}
	command_fail("run: %s cannot be taken over: %s %s; %s (%s)", path, subject, p.why,
		config->strict ? "not started, strict" : "it runs without tuplebind", p.remedy);
	return config->strict ? EX_CONFIG : 0;
}

int run_main(int argc, char **argv)
{
	char library[PATH_MAX];
	static struct request r;
	struct config config;
	enum program_service service;
	int error;

	settings_start(&r.settings, "run");
	if (!options_read(&options, &r, argc, argv, &error))
		return error;
	if (optind == argc)
		return command_usage("run", "no program to run");
	if (lease_wanted() && (error = lease_take_parts(&r.settings)) != 0)
		return error;
	if ((error = settings_apply(&r.settings, &config)) != 0)
		return error;
	if (lease_wanted() && !config.disabled)
		return lease_become(argv + optind);
	if ((error = preload_find("run", library)) != 0 ||
		(error = check_program(argv[optind], &config, &service)) != 0 ||
		(error = preload_set("run", library, service != PROGRAM_UNLOADABLE)) != 0)
		return error;
	execvp(argv[optind], argv + optind);
	error = errno;
	command_fail("run: %s: %s", argv[optind], strerror(error));
	return error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}
