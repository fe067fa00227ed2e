/*
 * With and without: what a program can see of the calls that libtuplebind.so takes over.
 *
 * The program makes calls on descriptors and prints what came of each, one line per case: results,
 * errno, and what the kernel says of the socket afterwards. tests/system/test_differential.py runs
 * it with and without the preload and compares the lines. A case that prints something that differs
 * from run to run is of no use: of a port that the kernel or tuplebind has chosen only that is told
 * (see tell_address()).
 *
 * The cases are tables: each kind of descriptor (kinds*.c) with each call (calls_*.c), each of some
 * calls after each other of them (main.c), and stories (stories_*.c), which do as they please.
 * Another taken-over call gets rows in a table of calls and, if it has a life of its own, a story.
 */
#pragma once

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* What errno holds before each call, to see who writes to it. */
#define UNTOUCHED 4242

/* TCP and UDP: something listens on OPEN_PORT of all addresses, nothing on NOBODY. */
#define OPEN_PORT  8001
#define NOBODY	   8999
#define OUR_PORT   7001 /* outside the kernel's range; what cases bind themselves */
#define LISTENER   7002
#define FIRST_PORT 20000
#define LAST_PORT  60999

/* Addresses of the host that test_differential.py makes, for the family of this run. */
struct place {
	int family;
	const char *loopback;
	const char *second;	 /* another loopback address */
	const char *wire;	 /* the host's on a device named DEVICE */
	const char *void_;	 /* nobody answers */
	const char *unreachable; /* the routes say EHOSTUNREACH ... */
	const char *prohibited;	 /* ... EACCES ... */
	const char *blackhole;	 /* ... EINVAL */
	const char *unrouted;	 /* no route at all */
	const char *foreign;	 /* no address of this host */
	const char *any;
	const char *multicast;
};

#define DEVICE "wire"

extern const struct place *place;

struct address {
	struct sockaddr_storage storage;
	socklen_t length;
};

#define SOCKADDR(a) ((struct sockaddr *)&(a)->storage)

/* An address of either family, "fe80::1%wire" included, or the path of a unix socket ("@x":
 * abstract). */
struct address address_of(const char *text, int port);

/* Telling: adds to the line of the case. */
void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "what=RESULT": the result as it is, else the name of errno. A success that has written to errno
 * shows. */
void tell_result(const char *what, long result);

/* CALL("connect", connect(...)) */
#define CALL(what, call) (errno = UNTOUCHED, tell_result((what), (long)(call)))

/* "what=ADDRESS:PORT/LENGTH"; a port of the kernel's range that no case has chosen is "chosen". */
void tell_address(const char *what, const struct sockaddr_storage *name, socklen_t length);

/* Everything that can be read of a descriptor, and which descriptors are open. */
void tell_descriptor(int fd);
void tell_open(void);

/* Cases open no descriptor between these two, nor beyond the last. */
#define LOW_DESCRIPTORS	 80
#define HIGH_DESCRIPTORS 1000
#define END_DESCRIPTORS	 1024

/* A kind of descriptor. make() returns it, or -1 with errno where the system has no such thing. */
struct kind {
	const char *name;
	int (*make)(void);
	bool slow; /* to close: is tried with some of the calls only */
};

/* A call: what is tried on a descriptor, and with what. */
struct call {
	const char *name;
	void (*make)(int fd, const struct call *c);
	const char *text; /* an address ... */
	size_t to;	  /* ... or, where that is NULL, which one of the place: TO(loopback) */
	int port, length, flags, value;
};

#define TO(what) .to = offsetof(struct place, what)

/* The address of a call. */
struct address call_address(const struct call *c);

/* Where nothing is mapped. The first is a member of a structure at NULL, say. */
#define NOWHERE_LOW ((void *)8)
void *nowhere(void);
/* A copy of @size bytes (at most 256) behind which nothing is mapped. */
void *at_the_edge(const void *bytes, size_t size);

/* A story makes its own descriptors, and may do to its process what it likes. */
struct story {
	const char *name;
	void (*tell)(const struct story *s);
	int value, other;
};

/* Tables end with a NULL name. */
extern const struct kind kinds_any[], kinds_tcp[], kinds_udp[];
extern const struct call calls_connect[], calls_bind[], calls_send[], calls_descriptor[],
	calls_option[];
extern const struct story stories_limits[], stories_process[], stories_filter[];

/* Sockets, made or the process ends. */
int must(int result, const char *what);
int tcp(void);
int udp(void);
void set_option(int fd, int level, int option, int value);
/* A socket's calls must not wait: what goes on in the background gives EINPROGRESS or EAGAIN soon.
 */
void set_impatient(int fd);
/* Where it is certain that it would wait: saves the milliseconds. */
void set_nonblocking(int fd);
/* The socket with one more thing done to it; -1 and errno, and closed, where that fails. */
int with_option(int fd, int level, int option, int value);
int with_device(int fd, const char *device);
/* Connected to AF_UNSPEC. */
int disconnected(int fd);
/* connect() and bind() that are not what is tested, and must succeed (or fail with @error). */
void do_connect(int fd, const char *to, int port, int error);
void do_bind(int fd, const char *to, int port);
/* The life of an ordinary connection: socket, connect, names, options, send, close. */
void tell_ordinary(void);
