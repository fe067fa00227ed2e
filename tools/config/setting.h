/*
 * One setting of the library: its names, the form of its value, and whether a value is good.
 *
 * The command knows each by the name of its option, "table-size", which is its key in the
 * configuration file as well; the library by that of its variable, TUPLEBIND_TABLE_SIZE.
 */
#pragma once

#include "tools/common/options.h"

#include "choose/config.h"

#define SETTINGS 15

enum setting_form {
	SETTING_TEXT,
	SETTING_LIST,  /* separated by commas */
	SETTING_RULES, /* separated by ; */
	SETTING_SWITCH /* 0 or 1 */
};

enum setting_origin { SETTING_DEFAULT, SETTING_ENVIRONMENT, SETTING_FILE, SETTING_OPTION };

/* In the order of config_names, as setting_rows. */
struct setting_kind {
	enum setting_form form;
	const char *preset; /* what holds where nothing is set, in words */
};

extern const struct setting_kind setting_kinds[SETTINGS];

struct setting {
	const char *value; /* NULL: the default */
	enum setting_origin origin;
	unsigned line; /* of the file */
};

/* The options, whose values go to an array of settings; behind them the row that ends the table. */
extern const struct option_row setting_rows[SETTINGS + 1];

/* The setting of an option, "table-size" or "table_size"; -1: there is none. */
int setting_find(const char *option);

/*
 * Checks one value by itself as the library will. Returns 0, or -EINVAL or -ENOMEM with the fault
 * told, without the variable's name. May ask for the host's interfaces.
 */
int setting_check(unsigned setting, const char *value, struct fault *f);

/* The longest value: Linux takes no longer string into a program's environment. */
#define SETTING_VALUE_MAX ((128 << 10) - SETTING_NAME_MAX - 1)

/* "TUPLEBIND_TABLE_SIZE" */
#define SETTING_NAME_MAX 32
void setting_name(unsigned setting, char name[static SETTING_NAME_MAX]);
