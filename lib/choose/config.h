/*
 * The environment variables, read and checked.
 *
 * Used by the library once at start and by the command before it starts a program. A
 * value that is not accepted is answered with one line that names the variable, the
 * part that is wrong and what is accepted. libtuplebind(7) and the README describe each variable.
 */
#pragma once

#include "base/log.h"
#include "base/parse.h"

#include <stdbool.h>
#include <stdint.h>

enum backend { BACKEND_AUTO, BACKEND_LATE, BACKEND_EXPLICIT };
enum balance { BALANCE_ROTATE, BALANCE_RANDOM, BALANCE_HASH, BALANCE_PACK };
enum when_full { FULL_FAIL, FULL_KERNEL };
enum when_unusable { UNUSABLE_KERNEL, UNUSABLE_FAIL };

/* Protocols that are taken over, to be added up. */
enum protocols { PROTOCOL_TCP = 1, PROTOCOL_UDP = 2 };

/* Texts point into the environment (or are constants). */
struct config {
	bool disabled, strict;
	enum backend backend;
	enum balance balance;
	enum when_full when_full;
	enum when_unusable when_unusable;
	unsigned protocols; /* of enum protocols */
	enum log_level log_level;
	const char *log_file; /* NULL: stderr */
	const char *table;    /* NULL: the user's default table */
	uint64_t table_size;
	const char *addrs, *ports, *rules, *skip;
};

/* All variables' names, without the TUPLEBIND_ prefix, in the order of the documentation; ends with
 * NULL. */
extern const char *const config_names[];

/* Sets what holds where no variable is set. */
void config_start(struct config *c);

/*
 * Reads the value of the variable config_names[@variable]; NULL and the empty one change nothing.
 * Returns 0, or -EINVAL with the fault told ("TUPLEBIND_NAME: what") and nothing changed. Of
 * ADDRS, PORTS, RULES and SKIP any text is taken: plan_make() reads them.
 */
int config_set(struct config *c, unsigned variable, const char *value, struct fault *f);

/*
 * Reads the environment by secure_getenv(). Returns 0, or -EINVAL with one fault told;
 * all other variables are read even then, and when TUPLEBIND_DISABLE is set nothing is a fault.
 */
int config_read(struct config *c, struct fault *f);
