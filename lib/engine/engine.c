#include "engine/engine.h"

#include "base/event.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int engine_prepare(struct engine *e, const struct config *c, struct fault *f)
{
	int error = plan_make(&e->plan, c, f);

	if (error < 0) {
		plan_free(&e->plan);
		return error;
	}
	error = netns_current(&e->netns);
	if (error < 0) {
		fault_set(f,
			"cannot tell the network namespace: %s; /proc must be mounted before Linux "
			"5.14",
			strerror(-error));
		return error;
	}
	error = table_attach(&e->table, c->table, c->table_size, &e->netns, f);
	if (error < 0)
		return error;
	e->plan.permutation = &e->table.permutation;
	e->plan.home = &e->netns;
	plan_set_ports(&e->plan);
	return 0;
}

void engine_start(struct engine *e)
{
	claim_walk_start(&e->walk);
	source_start(&e->sources,
		atomic_fetch_add_explicit(&e->table.header->turns, 1, memory_order_relaxed));
	/* Counts into a stripe of its own. */
	e->table.stripe = &e->table.header->stripes[(uint64_t)getpid() % TUPLEBIND_STRIPES];
}

bool engine_table_sound(struct engine *engine)
{
	struct event e;

	if (table_intact(&engine->table))
		return true;
	bool refuse = engine->plan.when_unusable == UNUSABLE_FAIL;
	if (refuse)
		atomic_store_explicit(&engine->refusing, 1, memory_order_release);
	if (atomic_exchange_explicit(&engine->active, 0, memory_order_relaxed) &&
		event_begin(&e, LOG_WARN, "table-unusable")) {
		event_text(&e, "reason", "some process has written over it");
		event_text(&e, "file", engine->table.path);
		event_text(&e, "then", refuse ? "connects are refused" : "the kernel chooses");
		event_text(&e, "fix", "remove the file and start the programs anew");
		event_end(&e);
	}
	return false;
}
