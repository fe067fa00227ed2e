#include "engine/state.h"

#include "table/reap.h"

void state_begin(struct state *s, enum sock_kind kind, uint32_t flags)
{
	atomic_store_explicit(&s->claim, CLAIM_NONE, memory_order_relaxed);
	atomic_store_explicit(&s->takings, 0, memory_order_relaxed);
	atomic_store_explicit(&s->stale_port, 0, memory_order_relaxed);
	atomic_store_explicit(&s->flags, flags, memory_order_relaxed);
	s->kind = kind;
}

void state_give_back(struct state *s, struct table *t)
{
	claim c = state_take_claim(s);

	if (c != CLAIM_NONE)
		claim_give_back(t, c);
}

void state_give_back_ended(struct state *s, struct table *t)
{
	claim c = state_take_claim(s);

	if (c != CLAIM_NONE)
		reap_claim(t, c);
}
