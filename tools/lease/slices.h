/*
 * The ports that are shared in parts: those of TUPLEBIND_PORTS and of each rule that names its own.
 *
 * With a lease they are given without a part, and are completed to `LIST/N:K` when it is known.
 */
#pragma once

#include "base/parse.h"
#include "base/portset.h"

struct slices {
	char *ports;	/* TUPLEBIND_PORTS */
	char *rules;	/* TUPLEBIND_RULES, "" for none */
	unsigned count; /* TUPLEBIND_LEASE_PARTS, 0 for none */
};

/*
 * Reads the variables. Whether they are right otherwise is for plan_make() to say. Returns 0,
 * -EINVAL (a part is given, too) or -ENOMEM with the fault told; slices_free() in any case.
 */
int slices_read(struct slices *s, struct fault *f);
void slices_free(struct slices *s);

/* Checks that each list of ports has some in each of @count parts. Returns 0 or -EINVAL. */
int slices_fit(const struct slices *s, unsigned count, struct fault *f);

/* Sets both variables to part @part of @count. Returns 0 or -ENOMEM. */
int slices_set(const struct slices *s, unsigned count, unsigned part, struct fault *f);

/* All ports that the variables, as they are set now, let tuplebind use. Returns 0 or -errno. */
int slices_ports(struct portset *all, struct fault *f);
