#include "engine/call.h"
#include "engine/attempt.h"

#include "base/event.h"
#include "base/probe.h"

#include <errno.h>
#include <netinet/in.h>

int attempt_no_port(const struct attempt *a)
{
	return a->socket->protocol == IPPROTO_UDP ? EAGAIN : EADDRNOTAVAIL;
}

void attempt_describe(struct event *e, const struct attempt *a)
{
	event_number(e, "fd", (uint64_t)a->call->fd);
	event_text(e, "protocol", a->socket->protocol == IPPROTO_UDP ? "udp" : "tcp");
	if (a->held.lport != 0)
		event_endpoint(e, "local", &a->from.addr, a->held.lport);
	event_endpoint(e, "foreign", &a->to.addr, a->to.port);
}

int attempt_make(const struct attempt *a)
{
	return a->call->front->make(a->call, NULL, NULL);
}

int attempt_make_cancelled(struct attempt *a, void (*landed)(void *))
{
	return a->call->front->make(a->call, landed, a);
}

bool attempt_note_passed(struct attempt *a, enum tuplebind_counter why)
{
	static const char *const reasons[TUPLEBIND_COUNTERS] = {
		[TUPLEBIND_TABLE_FULL] = "table full",
		[TUPLEBIND_PASSED_SKIPPED] = "skipped by the settings",
		[TUPLEBIND_PASSED_BOUND] = "the program has chosen its port",
		[TUPLEBIND_PASSED_SPECIAL] = "only the kernel can serve it",
		[TUPLEBIND_PASSED_NAMESPACE] = "of another network namespace",
		[TUPLEBIND_PASSED_HELPLESS] = "no address could be bound",
		[TUPLEBIND_PASSED_FULL] = "no tuple left",
	};
	struct event e;

	bool untouched = a->call->front->note_passed(a->call);
	a->became = BECAME_PASSED;
	table_count(&a->engine->table, TUPLEBIND_PASSED);
	table_count(&a->engine->table, why);
	if (event_begin(&e, LOG_DEBUG, "passed")) {
		attempt_describe(&e, a);
		event_text(&e, "reason", reasons[why]);
		event_end(&e);
	}
	return untouched;
}

void attempt_note_stale_port(const struct attempt *a, int error)
{
	struct addr unused;
	uint16_t port;

	if (a->state == NULL || a->socket->protocol != IPPROTO_TCP || attempt_kept(a, error) ||
		sock_local(a->call->fd, &unused, &port) < 0)
		return;
	atomic_store_explicit(&a->state->stale_port, port, memory_order_relaxed);
}

void attempt_tell_ports_changed(const struct attempt *a)
{
	static struct event_limit limit;
	struct event e;

	if (event_begin_limited(&e, LOG_INFO, "ports-changed", &limit)) {
		attempt_describe(&e, a);
		event_text(&e, "reason", "the kernel's port range has changed, read anew");
		event_end(&e);
	}
}

bool attempt_kept(const struct attempt *a, int error)
{
	switch (error) {
	case 0:
	case EINPROGRESS:
	case EINTR:
	case EALREADY:
	case EISCONN:
	case EAGAIN:
		return true;
	default:
		/* A send may fail for reasons of its own (EFAULT, EPIPE, ENOBUFS). */
		return a->call->sends && error != EADDRNOTAVAIL && !sock_is_closed(a->call->fd);
	}
}
