/*
 * An interface named in a pool, and the addresses it has now.
 *
 * They are looked at again when a second has passed, on the way of a connect(), since a library in
 * other people's programs has no thread or descriptor of its own to be told of changes. There
 * are two lists: readers use the one that was finished last, so they never wait and never see half
 * of one, whichever thread was stopped where. Async-signal-safe, but for interface_get().
 */
#pragma once

#include "base/addr.h"
#include "base/parse.h"

#include <stdint.h>

struct interface;

/*
 * The interface of that name, the same for every caller; it stays as long as the process. NULL,
 * with the fault told, when there is none or no memory. It may have no address yet.
 */
struct interface *interface_get(const char *name, struct fault *f);

const char *interface_name(const struct interface *i);

/* Looks at the addresses anew if the last look is older than a second. Takes memory from the kernel
 * when they have become more. */
void interface_refresh(struct interface *i);

/* How many of its addresses go with destination @faddr. O(1). */
uint64_t interface_count(const struct interface *i, const struct addr *faddr);

/* Number @index of them; false when they have become fewer meanwhile. O(1). */
bool interface_at(
	const struct interface *i, const struct addr *faddr, uint64_t index, struct addr *out);

/* In a forked child: another thread's look, if there was one under way, will not end here. */
void interface_forked(void);
