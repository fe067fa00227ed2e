/*
 * A set of ports: one bit for each of the 65,536.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct portset {
	uint64_t words[1024];
};

void portset_clear(struct portset *s);
void portset_add_range(struct portset *s, uint16_t first, uint16_t last);
void portset_remove_range(struct portset *s, uint16_t first, uint16_t last);
void portset_add(struct portset *s, const struct portset *other);
void portset_remove(struct portset *s, const struct portset *other);
void portset_keep(struct portset *s, const struct portset *other); /* only what is in both */
bool portset_has(const struct portset *s, uint16_t port);
unsigned portset_count(const struct portset *s);
