/*
 * How doctor tells what it finds, as text or JSON.
 */
#include "tools/doctor/finding.h"
#include "tools/common/colours.h"
#include "tools/common/command.h"
#include "tools/common/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const levels[] = {"ok", "note", "mend"};

static void tell_json(struct json *to, enum level level, const char *name, const char *figure,
	const char *why, const char *command)
{
	json_open(to, NULL, '{');
	json_text(to, "level", levels[level]);
	json_text(to, "name", name);
	json_text(to, "figure", figure);
	json_text(to, "why", why);
	json_text(to, "command", command);
	json_close(to, '}');
}

static void tell_text(enum level level, const char *name, const char *figure, const char *why,
	const char *command)
{
	static const char *const colours[] = {COLOUR_GREEN, COLOUR_YELLOW, COLOUR_RED};

	colours_put(colours[level]);
	printf("%-4s", levels[level]);
	colours_put(COLOUR_PLAIN);
	command_line("  %-23s %s", name, figure);
	if (why != NULL)
		command_line("      %s", why);
	if (command != NULL)
		command_line("      # %s", command);
}

void doctor_tell(struct doctor *d, enum level level, const char *name, const char *why,
	const char *command, const char *figure, ...)
{
	va_list arguments;
	char *text;

	va_start(arguments, figure);
	int length = vasprintf(&text, figure, arguments);
	va_end(arguments);
	if (level == LEVEL_OK)
		why = command = NULL;
	/* Without memory at least what it is about. */
	if (d->json)
		tell_json(&d->out, level, name, length >= 0 ? text : figure, why, command);
	else
		tell_text(level, name, length >= 0 ? text : figure, why, command);
	d->counts[level]++;
	if (length >= 0)
		free(text);
}
