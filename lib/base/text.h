/*
 * A line of text built piece by piece in a buffer of fixed size.
 *
 * For messages made where malloc and stdio are forbidden (connect() and close()
 * are async-signal-safe and stay so). What does not fit is cut; the result is
 * always NUL-terminated. Everything here is O(length) and async-signal-safe.
 */
#pragma once

#include "base/addr.h"

#include <stddef.h>
#include <stdint.h>

struct text {
	size_t length;
	char bytes[512];
};

void text_clear(struct text *t);
void text_put(struct text *t, const char *s);
void text_put_number(struct text *t, uint64_t value);
void text_put_addr(struct text *t, const struct addr *a);

/* "10.0.0.1:80" or "[2001:db8::1]:80". */
void text_put_endpoint(struct text *t, const struct addr *a, uint16_t port);
