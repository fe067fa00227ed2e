/*
 * The settings of the library as the command gathers them: each variable's value, and where it
 * came from.
 *
 * The options are the variables by another name, and stronger than what the environment has.
 * Values are checked by the readers of the library. An empty variable counts as unset.
 */
#pragma once

#include "choose/config.h"

#include <getopt.h>
#include <stdbool.h>

#define SETTINGS 14

enum setting_form {
	SETTING_TEXT,
	SETTING_LIST,  /* separated by commas */
	SETTING_RULES, /* separated by ; */
	SETTING_SWITCH /* 0 or 1 */
};

enum setting_origin { SETTING_DEFAULT, SETTING_ENVIRONMENT, SETTING_OPTION };

/* In the order of config_names. */
struct setting_kind {
	const char *option; /* "table-size" */
	enum setting_form form;
	const char *preset; /* what holds where nothing is set, in words */
};

extern const struct setting_kind setting_kinds[SETTINGS];

struct setting {
	const char *value; /* NULL: the default */
	enum setting_origin origin;
};

struct settings {
	const char *subcommand;
	struct setting of[SETTINGS];
	struct option *options; /* owned */
};

/* What the options are, for the help of each subcommand that takes them. */
#define SETTINGS_HELP                                                                              \
	"  --addrs LIST      local addresses: 10.0.0.5, 10.0.0.5-10.0.0.54, 10.0.0.0/28, eth0, "   \
	"auto\n"                                                                                   \
	"  --ports LIST      local ports: 20000-40000,50000-60000 or auto; /8:3 behind it takes\n" \
	"                    the third of eight parts, for hosts that share an address\n"          \
	"  --protocols LIST  tcp, udp, or tcp,udp\n"                                               \
	"  --balance HOW     rotate, random, hash, pack\n"                                         \
	"  --rules RULES     DEST=ADDRS[@PORTS] or DEST=skip, separated by ;\n"                    \
	"  --skip LIST       destinations left to the kernel: 10.1.0.0/16, [::1]:80, ...\n"        \
	"  --full WHAT       when no tuple is left: fail or kernel\n"                              \
	"  --backend WHICH   auto, late, explicit\n"                                               \
	"  --table NAME      the table's name, or private\n"                                       \
	"  --table-size SIZE 8M\n"                                                                 \
	"  --log LEVEL       off, error, warn, info, debug\n"                                      \
	"  --log-file FILE   instead of stderr\n"                                                  \
	"  --disable         do nothing: programs run as without tuplebind\n"                      \
	"  --strict          do not run a program if tuplebind cannot do its work\n"

/* Takes what the environment has. The texts stay where they are. */
void settings_start(struct settings *s, const char *subcommand);

/*
 * The next option that is not a setting's, like getopt_long(3), with @more options of the
 * subcommand's own, of which --help is 'h': their value, -1 at the first word that is no option, or
 * '?' when something is wrong and was told. Options after a word that is none are the program's.
 */
int settings_getopt(struct settings *s, int argc, char **argv, const struct option *more);

/*
 * Sets the variables of this process to what is in force and checks them as
 * the library will. Returns 0, or EXIT_TUPLEBIND with the reason told.
 */
int settings_apply(struct settings *s, struct config *config);

/* "TUPLEBIND_TABLE_SIZE" */
#define SETTING_NAME_MAX 32
void setting_name(unsigned setting, char name[static SETTING_NAME_MAX]);
