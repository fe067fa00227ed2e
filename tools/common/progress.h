/*
 * How far long work has come: one line on stderr that is written over, on a terminal only.
 *
 * Where stderr is no terminal, or one that cannot clear a line, nothing is ever written.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* All zero: nothing is shown. */
struct progress {
	bool shown;
	uint64_t next; /* when the line may be written over, ns */
};

/* True when the line is a tenth of a second old: what it says is worth working out. */
bool progress_due(const struct progress *p);

/* Shows a line, cut to the width of the terminal. */
void progress_show(struct progress *p, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Takes the line away; before anything else is written to the terminal. */
void progress_end(struct progress *p);
