#include "interpose/library.h"

#include "base/event.h"
#include "base/scratch.h"
#include "kernel/diag.h"
#include "kernel/memory.h"
#include "kernel/sock.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

struct library library;

bool library_table_sound(void)
{
	if (table_intact(&library.table))
		return true;
	bool refuse = library.plan.when_unusable == UNUSABLE_FAIL;
	if (refuse)
		atomic_store_explicit(&library.refusing, 1, memory_order_release);
	if (atomic_exchange_explicit(&library.active, 0, memory_order_relaxed)) {
		struct event e;

		if (event_begin(&e, LOG_WARN, "table-unusable")) {
			event_text(&e, "reason", "some process has written over it");
			event_text(&e, "file", library.table.path);
			event_text(
				&e, "then", refuse ? "connects are refused" : "the kernel chooses");
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
	/* A call in another library's handler came before ours. */
	if (!book_is_copy())
		return;
	book_start_copy();
	scratch_forked();
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

	if (error < 0) {
		plan_free(&library.plan);
		return error;
	}
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
	library.plan.home = &library.netns;
	plan_set_ports(&library.plan);
	return 0;
}

/* Whether the kernel offers late bind. Three system calls. */
static bool has_late_bind(void)
{
	int fd = (int)syscall(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool has = fd < 0 || sock_narrow_ports(fd, 0, 0) != -ENOPROTOOPT;

	if (fd >= 0)
		syscall(SYS_close, fd);
	return has;
}

/*
 * Whether claims without a holder can be found. With late bind and TCP the kernel's own search
 * makes up for it, where they fill all ports. 0, or -errno with the fault told for
 * TUPLEBIND_STRICT.
 */
static int check_diag(const struct config *c, struct fault *f)
{
	bool udp = c->protocols & PROTOCOL_UDP;
	int error = diag_answers(udp ? IPPROTO_UDP : IPPROTO_TCP);
	struct event e;

	/* No word of the system: there is no descriptor or memory left now. */
	if (error == 0 || error == -EMFILE || error == -ENFILE || error == -ENOMEM)
		return 0;
	bool needed = udp || c->backend == BACKEND_EXPLICIT || !has_late_bind();
	if (c->strict && needed)
		return fault_set(f,
			"sock_diag cannot be asked for %s sockets: %s; without it claims of killed "
			"programs are never given back: modprobe %s_diag, or allow AF_NETLINK",
			udp ? "UDP" : "TCP", strerror(-error), udp ? "udp" : "tcp");
	if (event_begin(&e, LOG_WARN, "no-sock-diag")) {
		event_error(&e, -error);
		event_text(&e, "reason", "the kernel cannot be asked which sockets there are");
		event_text(&e, "then",
			udp ? "UDP is left to the kernel"
			    : "it searches where all ports look taken");
		event_text(&e, "fix", "modprobe tcp_diag udp_diag, or allow AF_NETLINK");
		event_end(&e);
	}
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
			log_error == -ELOOP ? LOG_NO_LINKS : strerror(-log_error));
	if (error == 0)
		error = prepare(&config, &fault);
	if (error == 0)
		error = check_diag(&config, &fault);
	if (error < 0) {
		/* The settings are understood, and the table cannot be had. */
		bool refuse = library.plan.when_unusable == UNUSABLE_FAIL;
		struct text line;

		text_clear(&line);
		text_put(&line, fault.text);
		text_put(&line, config.strict ? "; not started (TUPLEBIND_STRICT)"
				: refuse      ? "; connects are refused (TUPLEBIND_UNUSABLE)"
					      : "; running without tuplebind");
		log_text(config.strict ? LOG_ERROR : LOG_WARN, &line);
		if (config.strict)
			_exit(EX_CONFIG);
		if (refuse)
			atomic_store_explicit(&library.refusing, 1, memory_order_release);
		else
			plan_free(&library.plan);
		errno = saved;
		return;
	}
	book_start(library_start_child);
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
