/*
 * What tuplebind doctor finds, and how it tells it.
 *
 * A finding is a thing with its figure; unless all is well also why it matters and, where there is
 * one, the command that mends it. Nothing is changed anywhere.
 */
#pragma once

#include "tools/common/json.h"
#include "tools/config/settings.h"

#include "base/portset.h"
#include "choose/plan.h"

enum level { LEVEL_OK, LEVEL_NOTE, LEVEL_MEND };

struct doctor {
	bool json;
	struct json out; /* with @json */
	unsigned counts[LEVEL_MEND + 1];
	struct settings settings;
	struct config config; /* what is in force; the defaults where that is not accepted */
	struct plan plan;
	const char *program; /* NULL: none was named */
	/* What the kernel offers, and the ports of the general rule. */
	struct portset range, offered, ports;
};

/*
 * Tells a finding: what was looked at, why its figure matters (NULL: it does not) and the command
 * that mends it, as root where it must be (NULL: there is none), both of which are told only where
 * not all is well; and the figure, as printf() has it.
 */
void doctor_tell(struct doctor *d, enum level level, const char *name, const char *why,
	const char *command, const char *figure, ...) __attribute__((format(printf, 6, 7)));

/* Room for a command. */
#define DOCTOR_COMMAND 2048
