/*
 * How much of the usual work a stress program does: TUPLEBIND_STRESS_PERCENT, or else its
 * second argument, or else 100.
 */
#pragma once

#include <stdlib.h>

static inline unsigned long stress_percent(int argc, char **argv)
{
	const char *text = getenv("TUPLEBIND_STRESS_PERCENT");

	if (text == NULL)
		text = argc > 2 ? argv[2] : "100";
	return strtoul(text, NULL, 10);
}
