/*
 * tuplebind env: prints the variables that `tuplebind run` would set.
 *
 * For whatever starts programs itself: the lines are read alike by a shell's eval and by systemd's
 * EnvironmentFile=. Both take what stands between single quotes as it is and join quoted
 * pieces, so a single quote goes in double ones. What only one of them would take is refused.
 */
#include "tools/common/command.h"
#include "tools/common/options.h"
#include "tools/common/preload.h"
#include "tools/config/settings.h"
#include "tools/subcommands.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct request {
	struct settings settings;
	bool exported;
};

static const struct option_row rows[] = {
	OPTION_SWITCH(struct request, exported, "export",
		"put \"export \" before each (not for systemd)"),
	OPTION_END,
};

static const struct options options = {
	.subcommand = "env",
	.usage = "usage: tuplebind env [OPTION...]\n"
		 "\n"
		 "Prints the variables that tuplebind run would set, LD_PRELOAD among them, as\n"
		 "NAME='VALUE' lines: for systemd's EnvironmentFile=, and for a shell:\n"
		 "eval \"$(tuplebind env --export -c FILE)\"\n"
		 "\n",
	.column = 20,
	.in_order = true,
	.groups = {{rows, 0}, SETTINGS_OPTIONS(struct request)},
};

/* True for text that systemd takes: UTF-8 in one line, without control characters. */
static bool is_plain(const char *value)
{
	bool plain = command_is_utf8(value);

	for (const char *p = value; *p != '\0'; p++)
		plain = plain && ((unsigned char)*p >= ' ' || *p == '\t') && *p != 0x7f;
	return plain;
}

static int print_variable(const char *name, const char *value, bool exported)
{
	if (!is_plain(value))
		return command_fail("env: %s: its value has control characters or is not UTF-8; "
				    "accepted: text that the shell and systemd both take",
			name);
	printf("%s%s='", exported ? "export " : "", name);
	for (const char *p = value; *p != '\0'; p++) {
		if (*p == '\'')
			fputs("'\"'\"'", stdout);
		else
			putchar(*p);
	}
	puts("'");
	return 0;
}

int env_main(int argc, char **argv)
{
	char library[PATH_MAX], name[SETTING_NAME_MAX];
	static struct request r;
	struct config config;
	int error;

	settings_start(&r.settings, "env");
	if (!options_read(&options, &r, argc, argv, &error))
		return error;
	if ((error = settings_apply(&r.settings, &config)) != 0 ||
		(error = preload_find("env", library)) != 0 ||
		(error = preload_set("env", library, true)) != 0)
		return error;
	for (unsigned i = 0; i < SETTINGS && error == 0; i++) {
		setting_name(i, name);
		if (r.settings.of[i].origin != SETTING_DEFAULT)
			error = print_variable(name, r.settings.of[i].value, r.exported);
	}
	if (error == 0)
		error = print_variable("LD_PRELOAD", getenv("LD_PRELOAD"), r.exported);
	return error != 0 ? error : command_flush("env");
}
