/*
 * The preloaded library's one instance.
 *
 * Every taken-over call first asks library_active(): before the library has started, or
 * when it may not or cannot work, the call goes straight to the next definition
 * (preload/next.h).
 */
#pragma once

#include "engine/engine.h"
#include "preload/book.h"
#include "preload/next.h"

#include <stdbool.h>

struct library {
	struct engine engine;
	struct process_self self; /* the program's entry in the table's list of processes */
};

extern struct library library;

static inline bool library_active(void)
{
	return engine_active(&library.engine);
}

/* Goes on in a forked child: new places in the lanes, no entry among the processes yet. */
void library_start_child(void);
