/*
 * The settings of the library as the command gathers them: each variable's value, and where it
 * came from.
 *
 * What run, env and config have in common: the options that are the variables by another
 * name, the configuration file, and the checks of the values, by the readers of the library. An
 * option of the command line is stronger than the file, the file is stronger than the
 * environment, in whatever order the words stand: who names a file means it, while the environment
 * was there before. An empty variable counts as unset.
 */
#pragma once

#include "tools/config/setting.h"

#include <stdbool.h>

struct settings {
	const char *subcommand;
	const char *file; /* NULL: none */
	struct setting of[SETTINGS];
	/* The lines of the rules in the file, in the order in which TUPLEBIND_RULES has them. */
	unsigned *rule_lines, rule_count;
};

/* --config, and the options of the settings: two groups of those of a subcommand whose request has
 * a member "settings". */
#define SETTINGS_OPTIONS(request)  SETTINGS_GROUPS(request, false)
#define SETTINGS_UNLISTED(request) SETTINGS_GROUPS(request, true) /* for --help that names them */
#define SETTINGS_GROUPS(request, unlisted)                                                         \
	{settings_rows, offsetof(request, settings), unlisted},                                    \
	{                                                                                          \
		setting_rows, offsetof(request, settings.of), unlisted                             \
	}
extern const struct option_row settings_rows[2];

/* Takes what the environment has. What is gathered lasts as long as the process. */
void settings_start(struct settings *s, const char *subcommand);

/*
 * Reads the file, sets the variables of this process to what is in force and checks them as
 * the library will. Returns 0, or EXIT_TUPLEBIND with the reason told.
 */
int settings_apply(struct settings *s, struct config *config);

/* The same without telling: a negative errno, with the reason in *why, which the caller frees. */
int settings_take(struct settings *s, struct config *config, char **why);

/*
 * Where a setting came from: "default", "environment", "option" or "FILE:LINE", of the rules the
 * line of rule @rule (from 0). The caller frees; NULL without memory.
 */
char *setting_place(const struct settings *s, int setting, unsigned rule);
