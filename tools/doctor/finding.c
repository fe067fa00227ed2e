/*
 * How doctor tells what it finds, as text or JSON.
 */
#include "tools/doctor/finding.h"
#include "tools/common/colours.h"
#include "tools/common/command.h"
#include "tools/common/json.h"

#include <stdio.h>

static const char *const levels[] = {"ok", "note", "mend"};

static void tell_json(struct doctor *d, enum level level, const char *name, const char *figure,
	const char *why, const char *command)
{
	static const char *const members[] = {"level", "name", "figure", "why", "command"};
	const char *values[] = {levels[level], name, figure, why, command};
	bool first = d->counts[LEVEL_OK] + d->counts[LEVEL_NOTE] + d->counts[LEVEL_MEND] == 0;

	printf("%s{", first ? "" : ",");
	for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
		printf("%s\"%s\":", i ? "," : "", members[i]);
		if (values[i] != NULL)
			json_put(stdout, values[i]);
		else
			printf("null");
	}
	printf("}");
}

static void tell_text(enum level level, const char *name, const char *figure, const char *why,
	const char *command)
{
	static const enum colour colours[] = {COLOUR_GREEN, COLOUR_YELLOW, COLOUR_RED};

	colours_put(colours[level]);
	printf("%-4s", levels[level]);
	colours_put(COLOUR_PLAIN);
	printf("  %-23s ", name);
	command_put(stdout, figure);
	putchar('\n');
	if (why != NULL) {
		printf("      ");
		command_put(stdout, why);
		putchar('\n');
	}
	if (command != NULL) {
		printf("      # ");
		command_put(stdout, command);
		putchar('\n');
	}
}

void doctor_tell(struct doctor *d, enum level level, const char *name, const char *figure,
	const char *why, const char *command)
{
	if (d->json)
		tell_json(d, level, name, figure, why, command);
	else
		tell_text(level, name, figure, why, command);
	d->counts[level]++;
}
