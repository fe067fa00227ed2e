/*
 * tuplebind: starts programs under the library, and looks at the tables.
 */
#include "tools/command.h"

#include "version.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
	"usage: tuplebind run [OPTION...] [--] PROGRAM [ARGUMENT...]\n"
	"       tuplebind status [--json]\n"
	"\n"
	"Gives every outgoing TCP connection of an unmodified program an explicit local\n"
	"address and a port that is unique for its tuple.\n"
	"\n"
	"  run      start a program under libtuplebind.so\n"
	"  status   show the tuple tables: lanes, claims, processes, counters\n"
	"\n"
	"  --help, --version; each subcommand has a --help of its own.\n";

static const struct {
	const char *name;
	command_main *main;
} subcommands[] = {
	{"run", run_main},
	{"status", status_main},
};

static void complain(const char *format, va_list arguments)
{
	fputs("tuplebind: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
}

int command_fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	complain(format, arguments);
	va_end(arguments);
	return EXIT_TUPLEBIND;
}

int command_usage(const char *subcommand, const char *format, ...)
{
	char message[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof message, format, arguments);
	va_end(arguments);
	return command_fail("%s: %s; see tuplebind %s --help", subcommand, message, subcommand);
}

int command_help(const char *text)
{
	fputs(text, stdout);
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_TUPLEBIND;
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
	return command_fail("\"%s\" is not a subcommand; there are run and status, see tuplebind --help",
		argv[1]);
}
