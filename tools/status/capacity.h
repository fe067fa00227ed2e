/*
 * How many ports a lane can have, for those who only see the table.
 *
 * The table does not say which ports its programs may use: that is TUPLEBIND_PORTS of each of them.
 * So it is told by what is at hand, the first that says anything: an option of the command;
 * TUPLEBIND_PORTS of the attached processes, as they were started; what the kernel offers, for
 * tables of this network namespace. Of another namespace's kernel nothing is known here.
 */
#pragma once

#include "base/parse.h"
#include "base/portset.h"

#include <stdbool.h>
#include <sys/types.h>

enum capacity_source {
	CAPACITY_UNKNOWN,
	CAPACITY_KERNEL,
	CAPACITY_PROCESSES,
	CAPACITY_GIVEN,
};

struct capacity {
	enum capacity_source source;
	struct portset ports; /* none when unknown */
	unsigned count;
};

/* The source in words that go behind a number of ports. */
const char *capacity_source_text(enum capacity_source source);

/*
 * Reads what an option says (NULL: nothing) and what the kernel offers. Returns 0, or -EINVAL with
 * the fault told.
 */
struct capacity_base {
	bool given;
	struct portset ports, kernel;
};
int capacity_base_read(struct capacity_base *base, const char *given, struct fault *f);

/*
 * Adds what one attached process may use to *c, which is all zero at first: TUPLEBIND_PORTS of the
 * environment it was started with. A process whose environment cannot be read, or that has written
 * over it (those that show a title in ps), says nothing. One small file.
 */
void capacity_add_process(
	struct capacity *c, const struct capacity_base *base, bool here, pid_t pid);

/* Ends it when all processes were added. @here: the table is of this network namespace. */
void capacity_end(struct capacity *c, const struct capacity_base *base, bool here);
