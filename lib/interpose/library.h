/*
 * The preloaded library's one instance, and the definitions it stands in front of.
 *
 * Every taken-over call first asks library_active(): before the library has started, or
 * when it may not or cannot work, the call goes straight to the next definition
 * in the chain (which may be another preload's, not libc's).
 */
#pragma once

#include "choose/plan.h"
#include "choose/source.h"
#include "interpose/book.h"
#include "kernel/netns.h"
#include "table/process.h"
#include "table/reap.h"

#include <stdbool.h>
#include <sys/socket.h>

/* Only what carries this is in the dynamic symbol table. */
#define EXPORT __attribute__((visibility("default")))

struct library {
	_Atomic int active;
	struct netns netns;
	struct table table;
	struct plan plan;
	struct process_self self;
	_Atomic uint64_t token; /* process_token() of this process; 0: not looked up yet */
	struct claim_walk walk;
	struct source_memory sources;
};

extern struct library library;

static inline bool library_active(void)
{
	/* Acquire pairs with the release at the end of starting. */
	return atomic_load_explicit(&library.active, memory_order_acquire);
}

/* Goes on in a forked child: new places in the lanes, no entry among the processes yet. */
void library_start_child(void);

/*
 * The next definition of a call, found when it is first needed: other libraries'
 * constructors may run before ours.
 */
void *next_find(const char *name, void *_Atomic *found);

#define NEXT(type, name) \
	({                                                                                        \
		static void *_Atomic found;                                                       \
		(__typeof__(type) *)next_find(name, &found);                                                  \
	})

int next_connect(int fd, const struct sockaddr *to, socklen_t length);
int next_close(int fd);
