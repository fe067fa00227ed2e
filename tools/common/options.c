#include "tools/common/options.h"

#include "tools/common/command.h"

#include "base/parse.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define OPTIONS_MAX 32
#define FIRST_VALUE 0x1000 /* as getopt_long() returns them, past all letters */

/* What getopt_long() is told, and of each option its row and where its value goes. */
struct reading {
	char letters[OPTIONS_MAX];
	struct option options[OPTIONS_MAX + 2]; /* --help, and the end */
	const struct option_row *rows[OPTIONS_MAX];
	void *to[OPTIONS_MAX];
	int count;
};

int option_switch(
	const struct options *o, const struct option_row *row, void *to, const char *value)
{
	*(bool *)to = true;
	return 0;
}

int option_text(const struct options *o, const struct option_row *row, void *to, const char *value)
{
	*(const char **)to = value;
	return 0;
}

int option_number(
	const struct options *o, const struct option_row *row, void *to, const char *value)
{
	if (parse_number(value, row->min, row->max, to) == 0)
		return 0;
	return command_usage(o->subcommand, "--%s: \"%s\" is not a number%s%s (%u-%u)", row->name,
		value, row->unit != NULL ? " of " : "", row->unit != NULL ? row->unit : "",
		row->min, row->max);
}

static void print_row(const struct option_row *row, int column)
{
	int at = printf("  ");

	if (row->letter != 0)
		at += printf("-%c, ", row->letter);
	at += printf("--%s", row->name);
	if (row->argument != NULL)
		at += printf(" %s", row->argument);
	printf("%*s", column - at, "");
	for (const char *p = row->help; *p != '\0'; p++) {
		putchar(*p);
		if (*p == '\n')
			printf("%*s", column, "");
	}
	putchar('\n');
}

static int print_help(const struct options *o)
{
	fputs(o->usage, stdout);
	for (size_t i = 0; i < sizeof o->groups / sizeof *o->groups; i++) {
		const struct option_row *row = o->groups[i].rows;

		for (; row != NULL && !o->groups[i].unlisted && row->name != NULL; row++)
			print_row(row, o->column);
	}
	return command_help(o->notes != NULL ? o->notes : "");
}

static void add_group(struct reading *r, const struct option_group *g, char *request)
{
	for (const struct option_row *row = g->rows; row != NULL && row->name != NULL; row++) {
		bool valued = row->argument != NULL;
		int value = row->letter != 0 ? row->letter : FIRST_VALUE + r->count;
		size_t end = strlen(r->letters);

		if (row->letter != 0)
			snprintf(r->letters + end, sizeof r->letters - end, "%c%s", row->letter,
				valued ? ":" : "");
		r->options[r->count] = (struct option){
			row->name, valued ? required_argument : no_argument, NULL, value};
		r->rows[r->count] = row;
		r->to[r->count++] = request + g->offset + row->offset;
	}
}

/* What getopt_long() has found: 0, or an exit code with the reason told. */
static int take(const struct reading *r, const struct options *o, int option, char *const *argv)
{
	for (int i = 0; i < r->count; i++)
		if (r->options[i].val == option)
			return r->rows[i]->take(o, r->rows[i], r->to[i], optarg);
	return command_usage(o->subcommand,
		option == ':' ? "%s wants a value" : "%s is not an option", argv[optind - 1]);
}

bool options_read(const struct options *o, void *request, int argc, char **argv, int *code)
{
	struct reading r = {.letters = ":h"};
	int option;

	if (o->in_order || o->words == OPTIONS_PROGRAM)
		memcpy(r.letters, "+:h", sizeof "+:h");
	for (size_t i = 0; i < sizeof o->groups / sizeof *o->groups; i++)
		add_group(&r, &o->groups[i], request);
	r.options[r.count] = (struct option){"help", no_argument, NULL, 'h'};
	*code = 0;
	opterr = 0;
	while ((option = getopt_long(argc, argv, r.letters, r.options, NULL)) != -1) {
		*code = option == 'h' ? print_help(o) : take(&r, o, option, argv);
		if (option == 'h' || *code != 0)
			return false;
	}
	if (o->words != OPTIONS_PROGRAM && argc - optind > o->words) {
		*code = command_usage(o->subcommand, "\"%s\" is too much", argv[optind + o->words]);
		return false;
	}
	return true;
}
