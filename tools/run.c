/*
 * tuplebind run: puts the library in front of a program and becomes that program.
 *
 * Options are the environment variables by another name. They are checked here, before
 * the program starts, so that a mistyped pool does not start a program without one.
 */
#include "tools/command.h"
#include "tools/program.h"

#include "choose/plan.h"
#include "install.h"

#include <bsd/string.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static const char help[] =
	"usage: tuplebind run [OPTION...] [--] PROGRAM [ARGUMENT...]\n"
	"\n"
	"Starts PROGRAM with libtuplebind.so preloaded. Each option sets the variable "
	"TUPLEBIND_NAME\n"
	"of its name; what is not given stays as the environment has it.\n"
	"\n"
	"  --addrs LIST      local addresses: 10.0.0.5, 10.0.0.5-10.0.0.54, 10.0.0.0/28, eth0, "
	"auto\n"
	"  --ports LIST      local ports: 20000-40000,50000-60000 or auto; /8:3 behind it takes\n"
	"                    the third of eight parts, for hosts that share an address\n"
	"  --protocols LIST  tcp, udp, or tcp,udp\n"
	"  --balance HOW     rotate, random, hash, pack\n"
	"  --rules RULES     DEST=ADDRS[@PORTS] or DEST=skip, separated by ;\n"
	"  --skip LIST       destinations left to the kernel: 10.1.0.0/16, [::1]:80, ...\n"
	"  --full WHAT       when no tuple is left: fail or kernel\n"
	"  --backend WHICH   auto, late, explicit\n"
	"  --table NAME      the table's name, or private\n"
	"  --table-size SIZE 8M\n"
	"  --log LEVEL       off, error, warn, info, debug\n"
	"  --log-file FILE   instead of stderr\n"
	"  --strict          do not run the program if tuplebind cannot do its work\n"
	"\n"
	"Exit status: the program's own; 125 tuplebind failed, 126 PROGRAM cannot be run,\n"
	"127 PROGRAM was not found.\n";

static const struct option options[] = {
	{"addrs", required_argument, NULL, 0},
	{"ports", required_argument, NULL, 0},
	{"protocols", required_argument, NULL, 0},
	{"balance", required_argument, NULL, 0},
	{"rules", required_argument, NULL, 0},
	{"skip", required_argument, NULL, 0},
	{"full", required_argument, NULL, 0},
	{"backend", required_argument, NULL, 0},
	{"table", required_argument, NULL, 0},
	{"table-size", required_argument, NULL, 0},
	{"log", required_argument, NULL, 0},
	{"log-file", required_argument, NULL, 0},
	{"strict", no_argument, NULL, 0},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

/* "table-size" to TUPLEBIND_TABLE_SIZE=value. */
static int set_variable(const char *option, const char *value)
{
	char name[64];

	strlcpy(name, "TUPLEBIND_", sizeof name);
	strlcat(name, option, sizeof name);
	for (char *p = name; *p != '\0'; p++)
		*p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
	return setenv(name, value, 1);
}

/* Reads and checks the variables as the library will; 0, or an exit code with the reason told. */
static int check_variables(struct config *config)
{
	struct fault fault;
	struct plan plan;
	int error = config_read(config, &fault);

	if (error == 0 && !config->disabled) {
		error = plan_make(&plan, config, &fault);
		plan_free(&plan);
	}
	return error < 0 ? command_fail("%s", fault.text) : 0;
}

/*
 * The library stands beside the command: in the build folder as ../lib, installed where
 * the build said libraries go, seen from where the command is, so that a moved
 * installation works.
 */
static int find_library(char path[static PATH_MAX])
{
	static const char *const places[] = {"/../lib/libtuplebind.so", INSTALLED_LIBRARY};
	char self[PATH_MAX], candidate[PATH_MAX + 64];
	ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);

	if (length < 0)
		return command_fail("run: cannot read /proc/self/exe: %s; /proc must be mounted",
			strerror(errno));
	self[length] = '\0';
	*strrchr(self, '/') = '\0';
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		snprintf(candidate, sizeof candidate, "%s%s", self, places[i]);
		if (realpath(candidate, path) != NULL && access(path, R_OK) == 0)
			return 0;
	}
	return command_fail(
		"run: libtuplebind.so is neither in %s%s nor in %s%s; build or install it", self,
		places[0], self, places[1]);
}

/*
 * Ours first, then what was to be preloaded anyway. A program that cannot load it goes
 * without, even if a tuplebind around this one has put it there.
 */
static int set_preload(const char *library, bool loadable)
{
	static const char separators[] = " :"; /* which cannot be quoted */
	const char *item = getenv("LD_PRELOAD");
	size_t length = strlen(library), size = length + 2 + (item ? strlen(item) : 0);

	if (strpbrk(library, separators) != NULL)
		return command_fail(
			"run: LD_PRELOAD cannot name \"%s\": blanks and colons separate its items; "
			"install tuplebind elsewhere",
			library);
	char *value = calloc(1, size);
	if (value != NULL && loadable)
		strlcpy(value, library, size);
	while (value != NULL && item != NULL && *(item += strspn(item, separators)) != '\0') {
		size_t item_length = strcspn(item, separators);

		if (item_length != length || strncmp(item, library, length) != 0) {
			if (value[0] != '\0')
				strlcat(value, ":", size);
			strncat(value, item, item_length);
		}
		item += item_length;
	}
	int error = value == NULL || (value[0] ? setenv("LD_PRELOAD", value, 1)
					       : unsetenv("LD_PRELOAD")) < 0
			    ? command_fail("run: %s", strerror(errno))
			    : 0;
	free(value);
	return error;
}

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
	struct config config;
	enum program_service service;
	int index, option, error;

	opterr = 0;
	/* '+': options after PROGRAM are its own. */
	while ((option = getopt_long(argc, argv, "+:h", options, &index)) != -1) {
		const char *argument = argv[optind - 1];

		switch (option) {
		case 0:
			if (set_variable(options[index].name, optarg ? optarg : "1") < 0)
				return command_fail("run: %s", strerror(errno));
			break;
		case 'h':
			return command_help(help);
		case ':':
			return command_usage("run", "%s wants a value", argument);
		default:
			return command_usage("run", "%s is not an option", argument);
		}
	}
	if (optind == argc)
		return command_usage("run", "no program to run");
	if ((error = check_variables(&config)) != 0 || (error = find_library(library)) != 0 ||
		(error = check_program(argv[optind], &config, &service)) != 0 ||
		(error = set_preload(library, service != PROGRAM_UNLOADABLE)) != 0)
		return error;
	execvp(argv[optind], argv + optind);
	error = errno;
	command_fail("run: %s: %s", argv[optind], strerror(error));
	return error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}
