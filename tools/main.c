/*
 * tuplebind: starts programs under the library, and looks at the tables.
 */
#include "tools/common/command.h"
#include "tools/subcommands.h"

#include "version.h"

#include <bsd/string.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
	"usage: tuplebind run [OPTION...] [--] PROGRAM [ARGUMENT...]\n"
	"       tuplebind status [--json]\n"
	"       tuplebind top|reap\n"
	"       tuplebind metrics [--output FILE | --http]\n"
	"       tuplebind reset [--force] [TABLE]\n"
	"       tuplebind env|config [OPTION...]\n"
	"       tuplebind explain [OPTION...] ADDRESS:PORT\n"
	"       tuplebind doctor [OPTION...] [--] [PROGRAM]\n"
	"\n"
	"Gives every outgoing connection of an unmodified program an explicit local\n"
	"address and a port that is unique for its tuple.\n"
	"\n"
	"  run      start a program under libtuplebind.so\n"
	"  status   show the tuple tables: lanes, claims, processes, counters\n"
	"  top      the same live, in the terminal\n"
	"  metrics  the same for Prometheus\n"
	"  reap     give back the claims whose sockets are gone\n"
	"  reset    remove tables that no program uses\n"
	"  env      print the variables that run would set, for systemd and the shell\n"
	"  config   show which settings are in force, and where each came from\n"
	"  doctor   say what limits connections here, and the command that mends it\n"
	"  explain  show what would become of a connect to one destination now\n"
	"\n"
	"  --help, --version; each subcommand has a --help of its own.\n";

static const struct {
	const char *name;
	subcommand_main *main;
} subcommands[] = {
	{"config", config_main},
	{"doctor", doctor_main},
	{"env", env_main},
	{"explain", explain_main},
	{"metrics", metrics_main},
	{"reap", reap_main},
	{"reset", reset_main},
	{"run", run_main},
	{"status", status_main},
	{"top", top_main},
};

static int unknown(const char *name)
{
	size_t count = sizeof subcommands / sizeof *subcommands;
	char names[256] = "";

	for (size_t i = 0; i < count; i++) {
		strlcat(names, i == 0 ? "" : i + 1 < count ? ", " : " and ", sizeof names);
		strlcat(names, subcommands[i].name, sizeof names);
	}
	return command_fail(
		"\"%s\" is not a subcommand; there are %s; see tuplebind --help", name, names);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fputs(help, stderr);
		return EXIT_TUPLEBIND;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return command_help(help);
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return command_help("tuplebind " TUPLEBIND_VERSION "\n");
	for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++)
		if (strcmp(argv[1], subcommands[i].name) == 0)
			return subcommands[i].main(argc - 1, argv + 1);
	return unknown(argv[1]);
}
