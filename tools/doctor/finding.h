/*
 * What tuplebind doctor finds, and how it tells it.
 *
 * A finding is a thing with its figure; unless all is well also why it matters and, where there is
 * one, the command that mends it. Nothing is changed anywhere.
 */
#pragma once

#include "tools/config/settings.h"

#include "base/portset.h"
#include "choose/plan.h"

enum level { LEVEL_OK, LEVEL_NOTE, LEVEL_MEND };

struct doctor {
	bool json;
	unsigned counts[LEVEL_MEND + 1];
	struct settings settings;
	struct config config; /* what is in force; the defaults where that is not accepted */
	struct plan plan;
	const char *program; /* NULL: none was named */
	/* What the kernel offers, and the ports of the general rule. */
	struct portset range, offered, ports;
};

/*
 * Tells a finding: what was looked at, its figure, why that matters (NULL: it does not), and the
 * command that mends it, as root where it must be (NULL: there is none).
 */
void doctor_tell(struct doctor *d, enum level level, const char *name, const char *figure,
	const char *why, const char *command);

/* Room for a figure, and for a command. */
#define DOCTOR_FIGURE  512
#define DOCTOR_COMMAND 2048
