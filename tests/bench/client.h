/*
 * What the parts of the client share: its options, its memory, opening one connection, and
 * processes that hold what they have opened.
 */
#pragma once

#include "samples.h"
#include "ways.h"

#include <pthread.h>

struct options {
	const struct way *way, *filler;
	struct route route;
	long open, buckets, own, failing, workers, destinations, addresses;
	double churn;
	bool threads, udp;
};

extern struct options options;

/* In memory that all processes of the run share, with samples for each worker behind it. */
struct shared {
	pthread_barrier_t start; /* of the workers */
	long opened, in_bucket;
	uint16_t port; /* that the lanes are having */
	bool finished;
	int done[2]; /* a pipe: a byte for each process that has done its work */
	struct lot lot;
	struct samples samples[];
};

extern struct shared *shared;

#define FAILURES_MOST 1000 /* one after another: the end */

/* Ends the process when @good is false, with the reason of errno. */
void need(bool good, const char *what);

/* Prints the line about @s, which took @took nanoseconds all in all. Sorts it. */
void report(const char *what, struct samples *s, long took);

/* A socket; with @reset nothing remains of its connection when it is closed. */
int new_socket(bool reset);

/* Connects @fd; 0 or errno. *port: the port from @l that was used up, free or not; 0: none. */
int connect_way(int fd, const struct way *way, struct lot *l, uint16_t *port);

/* Opens one that stays, in a fast way, for who has no part in what is measured. */
int open_filling(struct lot *l, uint16_t *port);

/* How many sockets a process may open; raises its limit. */
long descriptors(void);

/* Starts a child that runs @work and then holds what it has opened. */
void in_child(void (*work)(long), long argument);

/* Waits until so many children have done their work. */
void wait_for(long children);

/* The experiment of --churn. */
void churn_all(void);
