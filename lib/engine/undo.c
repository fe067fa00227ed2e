#include "engine/undo.h"

#include <netinet/in.h>

void undo_tuple(struct state *s, int fd, struct table *t, bool in_flight)
{
	struct addr unused;
	uint16_t port;

	/* claims.pml: C6 */
	if (in_flight)
		state_give_back(s, t);
	else
		state_give_back_ended(s, t);
	if (state_has_flag(s, STATE_TOUCHED))
		sock_narrow_ports(fd, 0, 0);
	if (sock_local(fd, &unused, &port) == 0)
		atomic_store_explicit(&s->stale_port, port, memory_order_relaxed);
}

int undo_address(struct state *s, int fd)
{
	if (s == NULL || !state_has_flag(s, STATE_BOUND) || state_has_flag(s, STATE_ADDRESS))
		return 0;
	int error = sock_bind_takes_no_port(fd, true);
	if (error < 0)
		return error;
	error = sock_bind_any(fd, sock_kind_family(s->kind), 0);
	sock_bind_takes_no_port(fd, state_has_flag(s, STATE_NO_PORT));
	return error;
}

void undo_all(struct state *s, int fd)
{
	if (s == NULL)
		return;
	if (state_has_flag(s, STATE_TOUCHED))
		sock_narrow_ports(fd, 0, 0);
	if (state_has_flag(s, STATE_FREEBIND))
		sock_freebind(fd, false);
	undo_address(s, fd);
	if (state_has_flag(s, STATE_TOUCHED) && sock_kind_protocol(s->kind) == IPPROTO_UDP) {
		sock_reuse_port(fd, false);
		sock_reuse_address(fd, state_has_flag(s, STATE_REUSE));
	}
	if (state_has_flag(s, STATE_TOUCHED))
		sock_bind_takes_no_port(fd, state_has_flag(s, STATE_NO_PORT));
	state_clear_flags(s, STATE_TOUCHED | STATE_FREEBIND);
}
