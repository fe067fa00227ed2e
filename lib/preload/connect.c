/*
 * connect(): a socket that nobody has bound gets a local address and a port that is unique for its
 * tuple, then connects. The engine does it; everything that it cannot even look at goes to the next
 * connect() untouched. send.c comes here as well.
 */
#include "preload/connect.h"

#include "kernel/memory.h"
#include "preload/untouched.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

bool connect_readable(const struct sockaddr *to, socklen_t length)
{
	return length >= sizeof(sa_family_t) && length <= sizeof(struct sockaddr_storage) &&
	       memory_readable(to, length);
}

/* 0, or errno. */
static int call_next(const struct connect_call *c)
{
	struct send *send = c->send;

	if (send == NULL)
		return next()->connect(c->call.fd, c->call.to, c->call.length) < 0 ? errno : 0;
	send->sent = send->message != NULL ? next()->sendmsg(c->call.fd, send->message, send->flags)
					   : next()->sendto(c->call.fd, send->bytes, send->length,
						     send->flags, c->call.to, c->call.length);
	return send->sent < 0 ? errno : 0;
}

static int make(const struct call *call, void (*cancelled)(void *), void *context)
{
	const struct connect_call *c = (const struct connect_call *)call;
	int error;

	if (cancelled == NULL)
		return call_next(c);
	pthread_cleanup_push(cancelled, context);
	error = call_next(c);
	pthread_cleanup_pop(0);
	return error;
}

static struct state *state(const struct call *c)
{
	struct record *r = book_record(c->fd, c->kind);

	return r != NULL ? &r->state : NULL;
}

static bool note_passed(const struct call *c)
{
	bool untouched = book_is_pristine(c->fd);

	book_note_changed(c->fd);
	return untouched;
}

/* glibc's, since 2.32; where there is none any process may have threads. */
/* NOLINTNEXTLINE(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): glibc's name */
extern char __libc_single_threaded __attribute__((weak));

static bool may_fork(void)
{
	return &__libc_single_threaded == NULL || !__libc_single_threaded;
}

/* A forked child is entered among the processes when it first connects. */
static void enter(const struct call *c)
{
	if (library.self.entry == NULL)
		process_enter(&library.engine.table, &library.self);
	atomic_store_explicit(&library.engine.token, process_token(getpid()), memory_order_relaxed);
}

static const struct front front = {
	.make = make,
	.state = state,
	.is_untouched = untouched_is,
	.note_passed = note_passed,
	.enter = enter,
	.may_fork = may_fork,
};

/* 0, or errno. */
static int run(struct connect_call *c)
{
	bool active = library_active();

	if ((!active && !engine_refuses(&library.engine)) ||
		!connect_readable(c->call.to, c->call.length) || (active && !book_usable()))
		return call_next(c);
	c->call.front = &front;
	c->call.engine = &library.engine;
	c->call.sends = c->send != NULL;
	if (!active)
		return engine_connect_refusing(&c->call).error;
	struct record *r = book_find(c->call.fd, &c->call.kind);
	return engine_connect(&c->call, r != NULL ? &r->state : NULL).error;
}

int connect_run(struct connect_call *c)
{
	int saved = errno, error = run(c);

	errno = error == 0 ? saved : error;
	return error == 0 ? 0 : -1;
}

EXPORT int connect(int fd, const struct sockaddr *to, socklen_t length)
{
	struct connect_call c = {.call = {.fd = fd, .to = to, .length = length}};

	return connect_run(&c);
}
