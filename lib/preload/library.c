#include "preload/library.h"

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
	engine_start(&library.engine);
	/* It is entered when it first connects. */
	library.self.entry = NULL;
	atomic_store_explicit(&library.engine.token, 0, memory_order_relaxed);
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
		event_text(&e, "table", library.engine.table.path);
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
		error = engine_prepare(&library.engine, &config, &fault);
	if (error == 0)
		error = check_diag(&config, &fault);
	if (error < 0) {
		/* The settings are understood, and the table cannot be had. */
		bool refuse = library.engine.plan.when_unusable == UNUSABLE_FAIL;
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
			atomic_store_explicit(&library.engine.refusing, 1, memory_order_release);
		else
			plan_free(&library.engine.plan);
		errno = saved;
		return;
	}
	book_start(library_start_child);
	engine_start(&library.engine);
	process_enter(&library.engine.table, &library.self);
	pthread_atfork(before_fork, after_fork_in_parent, library_start_child);
	atomic_store_explicit(&library.engine.active, 1, memory_order_release);
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
	if (atomic_load_explicit(&library.engine.has_claimed, memory_order_relaxed))
		process_strayed(&library.engine.table);
}
