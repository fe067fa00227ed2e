#include "engine/first.h"

#include "engine/addresses.h"
#include "engine/foresee.h"
#include "engine/leave.h"
#include "engine/udp.h"
#include "engine/undo.h"

#include <netinet/in.h>

/*
 * The table cannot say which tuples are free, so the kernel does: the claims that fill the lane
 * could not be looked into, or stand for other tuples than those that the kernel makes of this
 * destination.
 */
static int search(struct attempt *a)
{
	undo_all(a->state, a->call->fd);
	int error = addresses_search(a, SEARCH_PORTS);
	if (error < 0)
		return leave_port(a, SEARCH_FREELY, TUPLEBIND_PASSED_HELPLESS);
	return search_found_nothing(a, error) ? leave_full(a) : error;
}

/*
 * An explicit bind cannot be taken back when the guess was wrong, so a service of several backends
 * gets a port that is free whatever the destination comes to. -errno: there is none.
 */
static int connect_to_several(struct attempt *a)
{
	if (search_may_be_anywhere(a))
		return search(a);
	int error = addresses_search(a, SEARCH_PORTS);
	/* A port that was bound stays: the program is told. */
	bool bound = a->state != NULL && state_has_flag(a->state, STATE_EXPLICIT);
	return error >= 0 && search_found_nothing(a, error) && !bound ? -error : error;
}

int first_connect(struct attempt *a)
{
	bool late = plan_has_late(&a->engine->plan), seen = true;

	foresee(a);
	if (a->socket->protocol == IPPROTO_UDP && !late)
		udp_foresee(a);
	if (a->to.several && !late) {
		int error = connect_to_several(a);

		if (error >= 0)
			return error;
	}
	struct tries tries = addresses_try(a);
	if (tries_full(&tries))
		tries = addresses_reap(a, tries, &seen);
	if (tries.done)
		return tries.error;
	if (tries.lost)
		return refuse_lost(a);
	if (tries.table_full)
		return leave_table_full(a);
	if (!tries_full(&tries))
		return leave_port(a, SEARCH_FREELY, TUPLEBIND_PASSED_HELPLESS);
	return seen && !a->to.redirected && !foresee_source_varies(a) ? leave_full(a) : search(a);
}
