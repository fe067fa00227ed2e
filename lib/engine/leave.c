#include "engine/leave.h"

#include "base/probe.h"
#include "engine/addresses.h"
#include "engine/undo.h"

#include <errno.h>
#include <netinet/in.h>

int leave_whole(struct attempt *a, enum tuplebind_counter why)
{
	/* The port that it will have is the kernel's choice for this call, not the program's. */
	bool untouched = attempt_note_passed(a, why);

	/* What an earlier connect() of ours has left is not for this one. */
	undo_all(a->state, a->call->fd);
	int error = attempt_make(a);
	if (error != 0 && untouched) {
		if (a->state == NULL && !attempt_kept(a, error))
			a->state = a->call->front->state(a->call);
		attempt_note_stale_port(a, error);
	}
	return error;
}

int refuse(struct attempt *a, int error)
{
	a->became = BECAME_REFUSED;
	undo_all(a->state, a->call->fd);
	return error;
}

int refuse_lost(struct attempt *a)
{
	static struct event_limit limit;
	struct event e;

	if (event_begin_limited(&e, LOG_WARN, "address-lost", &limit)) {
		attempt_describe(&e, a);
		event_text(
			&e, "reason", "the address that the program bound cannot be bound again");
		event_text(&e, "then", "EADDRNOTAVAIL");
		event_end(&e);
	}
	return refuse(a, EADDRNOTAVAIL);
}

int refuse_unusable(struct attempt *a, const char *reason)
{
	static struct event_limit limit;
	bool refused = a->engine->plan.when_unusable == UNUSABLE_FAIL;
	struct event e;

	if (event_begin_limited(&e, LOG_WARN, "unusable", &limit)) {
		attempt_describe(&e, a);
		event_text(&e, "reason", reason);
		event_text(&e, "then", refused ? "EADDRNOTAVAIL" : "the kernel chooses");
		event_end(&e);
	}
	return refused ? refuse(a, EADDRNOTAVAIL) : 0;
}

int leave_port(struct attempt *a, enum search how, enum tuplebind_counter why)
{
	if (!attempt_has_pool(a) && how == SEARCH_FREELY)
		return leave_whole(a, why);
	undo_all(a->state, a->call->fd);
	attempt_note_passed(a, why);
	int error = addresses_search(a, how);
	if (error < 0 || search_found_nothing(a, error))
		undo_all(a->state, a->call->fd);
	if (error >= 0)
		return error;
	a->held.lport = 0;
	if (attempt_has_pool(a)) {
		error = refuse_unusable(a, "no address of the pool can be bound");
		if (error != 0)
			return error;
	}
	return attempt_make(a);
}

int leave_full(struct attempt *a)
{
	static struct event_limit limit;
	bool to_kernel = a->engine->plan.when_full == FULL_KERNEL;
	int error = attempt_no_port(a); /* UDP: the kernel has another answer */
	struct event e;

	table_count(&a->engine->table, TUPLEBIND_FULL);
	PROBE(full, a->call->fd, &a->to.addr, a->to.port);
	if (event_begin_limited(&e, LOG_WARN, "full", &limit)) {
		attempt_describe(&e, a);
		event_text(&e, "reason", "no tuple left");
		event_text(&e, "then",
			to_kernel	  ? "the kernel may try"
			: error == EAGAIN ? "EAGAIN"
					  : "EADDRNOTAVAIL");
		event_end(&e);
	}
	return to_kernel ? leave_port(a, SEARCH_FREELY, TUPLEBIND_PASSED_FULL) : refuse(a, error);
}

int leave_table_full(struct attempt *a)
{
	static struct event_limit limit;
	bool refused = a->engine->plan.when_unusable == UNUSABLE_FAIL;
	struct event e;

	if (event_begin_limited(&e, LOG_WARN, "table-full", &limit)) {
		attempt_describe(&e, a);
		event_text(&e, "reason", "no room in the table");
		event_text(&e, "then", refused ? "EADDRNOTAVAIL" : "the kernel chooses the port");
		event_text(&e, "fix", "a larger TUPLEBIND_TABLE_SIZE");
		event_end(&e);
	}
	if (!refused)
		return leave_port(a, SEARCH_PORTS, TUPLEBIND_TABLE_FULL);
	table_count(&a->engine->table, TUPLEBIND_FULL);
	return refuse(a, EADDRNOTAVAIL);
}
