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

void colours_put(const char *colour)
{
	if (started)
		fputs(colour, stdout);
}
