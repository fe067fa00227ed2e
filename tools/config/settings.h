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

#include <getopt.h>
#include <stdbool.h>

struct settings {
	const char *subcommand;
	const char *file; /* NULL: none */
	struct setting of[SETTINGS];
	/* The lines of the rules in the file, in the order in which TUPLEBIND_RULES has them. */
	unsigned *rule_lines, rule_count;
	struct option *options;
};

/* What the options are, for the help of each subcommand that takes them. */
#define SETTINGS_HELP                                                                              \
	"  -c, --config FILE a file: weaker than options, stronger than the environment\n"         \
	"  --addrs LIST      10.0.0.5, 10.0.0.5-10.0.0.54, 10.0.0.0/28, eth0, or auto\n"           \
	"  --ports LIST      20000-40000,50000-60000 or auto; /8:3: third of eight parts\n"        \
	"  --protocols LIST  tcp, udp, or tcp,udp\n"                                               \
	"  --balance HOW     rotate, random, hash, pack\n"                                         \
	"  --rules RULES     DEST=ADDRS[@PORTS] or DEST=skip, separated by ;\n"                    \
	"  --skip LIST       destinations left to the kernel: 10.1.0.0/16, [::1]:80, ...\n"        \
	"  --full WHAT       when no tuple is left: fail or kernel\n"                              \
	"  --unusable WHAT   when no address of the pool can be used: kernel or fail\n"            \
	"  --backend WHICH   auto, late, explicit\n"                                               \
	"  --table NAME      the table's name, or private\n"                                       \
	"  --table-size SIZE 8M\n"                                                                 \
	"  --log LEVEL       off, error, warn, info, debug\n"                                      \
	"  --log-file FILE   instead of stderr\n"                                                  \
	"  --disable         do nothing: programs run as without tuplebind\n"                      \
	"  --strict          do not run a program if tuplebind cannot do its work\n"

/* Takes what the environment has. What is gathered lasts as long as the process. */
void settings_start(struct settings *s, const char *subcommand);

/*
 * The next option that is not a setting's, like getopt_long(3), with @more options of the
 * subcommand's own, of which --help is 'h': their value, -1 at the first word that is no option, or
 * '?' when something is wrong and was told. Options after a word that is none are the program's.
 */
int settings_getopt(struct settings *s, int argc, char **argv, const struct option *more);

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
