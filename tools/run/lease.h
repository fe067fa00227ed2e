/*
 * tuplebind run --lease: hands over to tuplebind-lease, which gets the program a part of the ports
 * and starts it by another tuplebind run.
 */
#pragma once

#include "tools/config/settings.h"

#include <stdbool.h>

/* The options of run; each sets the variable of its name. */
extern const struct option_row lease_rows[];

/* Whether a lease is asked for, by option or environment. */
bool lease_wanted(void);

/* Takes the /N off --ports LIST/N, which means something with a lease only. 0, or EXIT_TUPLEBIND.
 */
int lease_take_parts(struct settings *s);

/* Becomes tuplebind-lease for this program. Returns only if that fails: EXIT_TUPLEBIND, reason
 * told. */
int lease_become(char **program);
