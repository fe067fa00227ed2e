#include "tools/common/colours.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool started;

bool colours_wanted(void)
{
	const char *terminal = getenv("TERM"), *no = getenv("NO_COLOR");

	return isatty(STDOUT_FILENO) && (no == NULL || no[0] == '\0') && terminal != NULL &&
	       terminal[0] != '\0' && strcmp(terminal, "dumb") != 0;
}

void colours_start(void)
{
	started = colours_wanted();
}

void colours_put(enum colour colour)
{
	static const char *const codes[] = {
		[COLOUR_GREEN] = "\033[32m",
		[COLOUR_YELLOW] = "\033[33m",
		[COLOUR_RED] = "\033[31m",
		[COLOUR_BOLD_RED] = "\033[1;31m",
		[COLOUR_BOLD] = "\033[1m",
		[COLOUR_PLAIN] = "\033[0m",
	};

	if (started)
		fputs(codes[colour], stdout);
}
