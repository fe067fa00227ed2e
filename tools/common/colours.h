/*
 * Colours in the text on stdout: on a terminal only, and not where NO_COLOR is set
 * (https://no-color.org) or TERM is dumb.
 */
#pragma once

#include <stdbool.h>

/* In the order of how bad a thing is, where they say that. */
enum colour { COLOUR_GREEN, COLOUR_YELLOW, COLOUR_RED, COLOUR_BOLD_RED, COLOUR_BOLD, COLOUR_PLAIN };

/* Whether they are wanted where this process writes to. */
bool colours_wanted(void);

/* From here on colours are written, if they are wanted. */
void colours_start(void);

/* Text that follows on stdout has the colour; nothing is written before colours_start(). */
void colours_put(enum colour colour);
