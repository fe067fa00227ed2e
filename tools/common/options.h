/*
 * The options of a subcommand as one table: which there are, where their values go, and their lines
 * in --help.
 */
#pragma once

#include <getopt.h> /* optind */
#include <stdbool.h>
#include <stddef.h>

struct options;
struct option_row;

/*
 * Takes an option's @value (NULL: it has none) to where the row says. Returns 0, or an exit code
 * with the reason told.
 */
typedef int option_take(
	const struct options *o, const struct option_row *row, void *to, const char *value);

option_take option_switch; /* to a bool */
option_take option_text;   /* to a const char * */
option_take option_number; /* to a uint64_t, within the row's bounds */

/* A table ends with a row without a name. */
struct option_row {
	const char *name;     /* "lanes" */
	const char *argument; /* "N", for --help; NULL: it takes no value */
	const char *help;     /* a line or more */
	option_take *take;
	size_t offset; /* of what @take is given, from the group's */
	unsigned min, max;
	const char *unit; /* of a number, NULL: none */
	char letter;	  /* 'c' for -c, 0: none */
};

/* Rows whose values are members of @request. */
#define OPTION_SWITCH(request, member, name, help)                                                 \
	{                                                                                          \
		name, NULL, help, option_switch, offsetof(request, member)                         \
	}
#define OPTION_TEXT(request, member, name, argument, help)                                         \
	{                                                                                          \
		name, argument, help, option_text, offsetof(request, member)                       \
	}
#define OPTION_END                                                                                 \
	{                                                                                          \
		.name = NULL                                                                       \
	}

/* Any number of words, which may begin with dashes from the first one on: a program's. */
#define OPTIONS_PROGRAM (-1)

struct options {
	const char *subcommand;
	const char *usage; /* of --help, what stands before the options */
	const char *notes; /* and behind them; NULL: nothing */
	int column;	   /* where in --help the text of an option begins */
	int words;	   /* that may be there beside options, or OPTIONS_PROGRAM */
	bool in_order;	   /* no options behind such a word */
	struct option_group {
		const struct option_row *rows; /* NULL: none */
		size_t offset;		       /* of what they fill in, from the request */
		bool unlisted;		       /* in --help */
	} groups[3];
};

/*
 * Reads the options into @request; the words that are none are argv[optind] and on. False: help was
 * given or something is wrong and told, and the command ends with *code.
 */
bool options_read(const struct options *o, void *request, int argc, char **argv, int *code);
