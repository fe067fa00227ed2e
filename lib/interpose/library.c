#include "interpose/library.h"

#include "base/event.h"
#include "kernel/memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sysexits.h>
#include <unistd.h>

struct library library;

bool library_table_sound(void)
{
	if (table_intact(&library.table))
		return true;
	if (atomic_exchange_explicit(&library.active, 0, memory_order_relaxed)) {
		struct event e;

		if (event_begin(&e, LOG_WARN, "table-unusable")) {
			event_text(&e, "reason", "some process has written over it");
			event_text(&e, "file", library.table.path);
			event_text(&e, "then", "the kernel chooses");
			event_text(&e, "fix", "remove the file and start the programs anew");
			event_end(&e);
		}
	}
	return false;
}

static void start_sources(void)
{
	source_start(&library.sources,
		atomic_fetch_add_explicit(&library.table.header->turns, 1, memory_order_relaxed));
}

static void before_fork(void)
{
	book_forked();
}

static void after_fork_in_parent(void)
{
	/* Once more: what other threads opened between the first time and the fork. */
	book_forked();
}

void library_start_child(void)
{
	book_start();
	claim_walk_start(&library.walk);
	start_sources();
	/* Counts into the stripe of its own and is entered when it first connects. */
	library.table.stripe =
		&library.table.header->stripes[(uint64_t)getpid() % TUPLEBIND_STRIPES];
	library.self.entry = NULL;
	atomic_store_explicit(&library.token, 0, memory_order_relaxed);
}

static int prepare(const struct config *c, struct fault *f)
{
	int error = plan_make(&library.plan, c, f);

	if (error < 0)
		return error;
	error = netns_current(&library.netns);
	if (error < 0) {
		fault_set(f,
			"cannot tell the network namespace: %s; /proc must be mounted before Linux "
			"5.14",
			strerror(-error));
		return error;
	}
	error = table_attach(&library.table, c->table, c->table_size, &library.netns, f);
	if (error < 0)
		return error;
	library.plan.permutation = &library.table.permutation;
	plan_set_ports(&library.plan);
	return 0;
}

static void tell_attached(void)
{
	struct event e;

	if (event_begin(&e, LOG_DEBUG, "attached")) {
		event_text(&e, "table", library.table.path);
		event_text(&e, "program", program_invocation_short_name);
		event_end(&e);
	}
}

/*
 * Runs before main(). Whatever goes wrong here costs one line and the service of
 * tuplebind, never the program, unless TUPLEBIND_STRICT asks for that.
 */
__attribute__((constructor)) static void start(void)
{
	struct config config;
	struct fault fault = {.text = ""};
	int saved = errno;

	next();
	/* With other rights than its caller's, a program takes no orders from its environment. */
	if (getauxval(AT_SECURE))
		return;
	int error = config_read(&config, &fault);
	if (error == 0 && config.disabled)
		return;
	memory_start();
	int log_error = log_open(config.log_level, config.log_file);
	if (error == 0 && log_error < 0)
		error = fault_set(&fault,
			"TUPLEBIND_LOG_FILE: \"%.100s\" cannot be appended to: %s", config.log_file,
			strerror(-log_error));
	if (error == 0)
		error = prepare(&config, &fault);
	if (error < 0) {
		struct text line;

		text_clear(&line);
		text_put(&line, fault.text);
		text_put(&line, config.strict ? "; not started (TUPLEBIND_STRICT)"
					      : "; running without tuplebind");
		log_text(config.strict ? LOG_ERROR : LOG_WARN, &line);
		if (config.strict)
			_exit(EX_CONFIG);
		plan_free(&library.plan);
		errno = saved;
		return;
	}
	book_start();
	claim_walk_start(&library.walk);
	start_sources();
	process_enter(&library.table, &library.self);
	pthread_atfork(before_fork, after_fork_in_parent, library_start_child);
	atomic_store_explicit(&library.active, 1, memory_order_release);
	tell_attached();
	errno = saved;
}

__attribute__((destructor)) static void stop(void)
{
	/* A vfork child that exits through exit() must not sign its parent off. */
	if (!library_active() || !book_usable())
		return;
	process_leave(&library.self);
	/* What is still open loses its holder soon. */
	if (atomic_load_explicit(&library.has_claimed, memory_order_relaxed))
		process_strayed(&library.table);
}
