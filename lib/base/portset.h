/*
 * A set of ports: one bit for each of the 65,536.
 */
#pragma once

#include "base/parse.h"

#include <stdbool.h>
#include <stdint.h>

struct portset {
	uint64_t words[1024];
};

void portset_clear(struct portset *s);
void portset_add_range(struct portset *s, uint16_t first, uint16_t last);
void portset_remove(struct portset *s, const struct portset *other);
bool portset_has(const struct portset *s, uint16_t port);
unsigned portset_count(const struct portset *s);

/*
 * Adds the ports of a list such as "20000-40000,50000", blanks allowed around the
 * commas. Port 0 does not exist. Returns 0, or -EINVAL with the fault told.
 */
int portset_parse(struct portset *s, const char *list, struct fault *f);
