#include "engine/address.h"

#include "base/probe.h"
#include "engine/tcp.h"
#include "engine/tuple.h"
#include "engine/udp.h"

#include <errno.h>
#include <netinet/in.h>

/* A socket connected to its own address and port would talk to itself. */
static uint16_t port_to_avoid(const struct attempt *a)
{
	return addr_equal(&a->from.addr, &a->to.addr) ? a->to.port : 0;
}

/* Claims a port of the stage. 0, -EADDRNOTAVAIL or -ENOSPC (claim_take()). */
static int claim_port_of(struct attempt *a, enum stage stage)
{
	struct engine *e = a->engine;

	return claim_take_announced(&e->table, &a->from.lane, a->from.lane_hash,
		&a->socket->rule->ports->order, stage, &e->walk, port_to_avoid(a),
		flight_what(a->held.flight), &a->held.claim, &a->held.lport);
}

static struct result try_stage(struct attempt *a, enum stage stage)
{
	bool udp = a->socket->protocol == IPPROTO_UDP;
	int got;

	/* Nothing waits in TIME_WAIT: UDP ports need not be slow to repeat. */
	if (udp)
		claim_walk_scatter(&a->engine->table, &a->engine->walk, a->from.lane_hash,
			&a->socket->rule->ports->order, stage);
	while ((got = claim_port_of(a, stage)) == 0) {
		PROBE(claim, a->call->fd, &a->from.lane, a->held.lport, a->held.claim);
		if (!tuple_note_touch(a)) {
			tuple_give_back(a);
			return result_of(TRIED_GIVE_UP);
		}
		struct result r = udp ? udp_try(a, stage) : tcp_try(a, stage);
		if (r.tried != TRIED_NEXT_PORT)
			return r;
	}
	return result_of(got == -ENOSPC ? TRIED_TABLE_FULL : TRIED_FULL);
}

static struct result try_stages(struct attempt *a)
{
	const struct portorder *order = &a->socket->rule->ports->order;
	bool table_full = false, forbidden = false;

	for (enum stage stage = STAGE_LATE; stage < STAGES; stage++) {
		if (stage != STAGE_LATE && tuple_bind_forbidden(a)) {
			forbidden |= portorder_has(order, stage);
			continue;
		}
		struct result r = try_stage(a, stage);
		if (r.tried != TRIED_FULL && r.tried != TRIED_TABLE_FULL)
			return r;
		table_full |= r.tried == TRIED_TABLE_FULL;
	}
	a->held.lport = 0;
	/* Without late bind nothing has been tried. */
	if (forbidden && !portorder_has(order, STAGE_LATE))
		return result_of(TRIED_GIVE_UP);
	return result_of(table_full ? TRIED_TABLE_FULL : TRIED_FULL);
}

struct result address_try(struct attempt *a)
{
	a->from.bound = false;
	tuple_set_lane(a);
	tuple_begin_flight(a);
	struct result r = try_stages(a);
	tuple_end_flight(a);
	return r;
}
