/*
 * Colours in the text on stdout: on a terminal only, and not where NO_COLOR is set
 * (https://no-color.org) or TERM is dumb.
 */
#pragma once

#include <stdbool.h>

#define COLOUR_GREEN	"\033[32m"
#define COLOUR_YELLOW	"\033[33m"
#define COLOUR_RED	"\033[31m"
#define COLOUR_BOLD_RED "\033[1;31m"
#define COLOUR_BOLD	"\033[1m"
#define COLOUR_PLAIN	"\033[0m"

/* Whether they are wanted where this process writes to. */
bool colours_wanted(void);

/* From here on colours are written, if they are wanted. */
void colours_start(void);

/* Text that follows on stdout has the colour; nothing is written before colours_start(). */
void colours_put(const char *colour);
