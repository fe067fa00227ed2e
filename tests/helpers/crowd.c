/*
 * crowd HOW THREADS KEEP ROUNDS ADDRESS PORT: threads that connect and close at full speed.
 *
 * Each thread has KEEP places for connections and goes ROUNDS times to one of them at random: what
 * is there is closed, by a reset, or a connection is made to ADDRESS and PORT. At the end all
 * places are filled. HOW says what happens meanwhile:
 *
 *   calm     nothing
 *   full     nothing, but places are filled again at once: hardly a tuple is ever free
 *   signals  a timer interrupts each round somewhere; the handler does the same at another place
 *   forks    another thread forks; the children connect, close, and end or exec
 *   cancels  threads are cancelled in connect() and close(), and others started in their stead
 *
 * Says one line: how many connects, how many failed, the last error, the connections held. A line
 * on stdin makes it close all its sockets and say how many of them there were; the end of stdin
 * ends it. What takes too long ends with SIGALRM.
 */
#include "endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS	     64
#define KEEP	     64
#define HANG_SECONDS 60
#define FORKS	     60
#define CANCELS	     100
#define ROUND_NS     60000 /* about what a round takes */

static struct place {
	pthread_t thread;
	_Atomic int fds[KEEP]; /* 0: nothing there */
	unsigned seed;
} places[THREADS];

static struct endpoint to;
static int threads, keep, rounds;
static bool signals, full, until_done;
static _Atomic long connects, failed;
static _Atomic int last_error;
static _Atomic bool done;
static _Thread_local struct place *here;

static void note_failure(void)
{
	last_error = errno;
	failed++;
}

/* A connection that is reset when it is closed; 0: it failed. */
static int open_one(void)
{
	int fd = socket(to.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		note_failure();
		return 0;
	}
	reset_at_close(fd);
	connects++;
	if (connect(fd, (struct sockaddr *)&to.address, to.length) == 0)
		return fd;
	note_failure();
	close(fd);
	return 0;
}

static void put(struct place *p, int which, int fd)
{
	int before = atomic_exchange(&p->fds[which], fd);

	/* A handler was quicker. */
	if (before != 0)
		close(before);
}

static void go_round(struct place *p)
{
	int which = rand_r(&p->seed) % keep, fd = atomic_exchange(&p->fds[which], 0);

	if (fd != 0)
		close(fd);
	if (fd == 0 || full)
		put(p, which, open_one());
}

static void on_timer(int number)
{
	int error = errno;

	go_round(here);
	errno = error;
}

static timer_t timer_of_thread(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
	timer_t timer;

#ifdef sigev_notify_thread_id
	event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
#else
	event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
#endif
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
		abort();
	return timer;
}

/* One signal for each round, so that the thread goes on however long its handler takes. */
static void set_off(timer_t timer, struct place *p)
{
	struct itimerspec once = {.it_value.tv_nsec = 1 + rand_r(&p->seed) % ROUND_NS};

	timer_settime(timer, 0, &once, NULL);
}

static void fill(struct place *p)
{
	for (int i = 0; i < keep; i++)
		if (p->fds[i] == 0)
			put(p, i, open_one());
}

static void *visit(void *place)
{
	struct itimerspec never = {.it_value.tv_nsec = 0};
	timer_t timer = NULL;

	here = place;
	if (signals)
		timer = timer_of_thread();
	for (int i = 0; until_done ? !done : i < rounds; i++) {
		if (signals)
			set_off(timer, here);
		go_round(here);
	}
	if (signals) {
		timer_settime(timer, 0, &never, NULL);
		timer_delete(timer);
	}
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	fill(here);
	return NULL;
}

static void start(struct place *p)
{
	if (pthread_create(&p->thread, NULL, visit, p) != 0)
		abort();
}

/* What a child does, by turns: ends, execs, or closes all that it has inherited. */
static void be_child(int turn, char **self)
{
	int fds[3];

	alarm(HANG_SECONDS);
	failed = 0;
	if (turn % 3 == 0)
		closefrom(3);
	for (int i = 0; i < 3; i++)
		fds[i] = open_one();
	close(fds[0]);
	if (turn % 3 == 1 && failed == 0)
		execv("/proc/self/exe", self);
	_exit(failed != 0);
}

static void fork_all(char **self)
{
	for (int turn = 0; turn < FORKS; turn++) {
		int status;
		pid_t pid = fork();

		if (pid == 0)
			be_child(turn, self);
		if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0) {
			last_error = ECHILD;
			failed++;
		}
	}
}

/* A thread that is cancelled leaves what it was opening or closing as it was. */
static void cancel_all(void)
{
	unsigned seed = (unsigned)getpid();

	for (int i = 0; i < CANCELS; i++) {
		struct place *p = &places[rand_r(&seed) % threads];
		struct timespec nap = {.tv_nsec = rand_r(&seed) % (4 * ROUND_NS)};

		nanosleep(&nap, NULL);
		pthread_cancel(p->thread);
		pthread_join(p->thread, NULL);
		start(p);
	}
}

static int held(void)
{
	int count = 0;

	for (int t = 0; t < threads; t++)
		for (int i = 0; i < keep; i++)
			count += places[t].fds[i] != 0;
	return count;
}

/* All sockets, also those that nobody kept. */
static int close_all(void)
{
	int count = 0, type;
	socklen_t length = sizeof type;

	for (int fd = 3, last = getdtablesize(); fd < last; fd++) {
		if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0)
			continue;
		close(fd);
		count++;
	}
	return count;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
	char line[16];

	/* What "forks" execs. */
	if (argc == 2)
		return strcmp(argv[1], "nothing");
	threads = argc == 7 ? atoi(argv[2]) : 0;
	keep = argc == 7 ? atoi(argv[3]) : 0;
	if (threads < 1 || threads > THREADS || keep < 1 || keep > KEEP) {
		fprintf(stderr, "usage: crowd HOW THREADS KEEP ROUNDS ADDRESS PORT\n");
		return 2;
	}
	rounds = atoi(argv[4]);
	to = endpoint_read(argv[5], argv[6]);
	signals = strcmp(argv[1], "signals") == 0;
	full = strcmp(argv[1], "full") == 0;
	until_done = rounds == 0;
	alarm(HANG_SECONDS);
	sigaction(SIGUSR1, &action, NULL);
	for (int t = 0; t < threads; t++) {
		places[t].seed = (unsigned)(getpid() * THREADS + t);
		start(&places[t]);
	}
	if (strcmp(argv[1], "forks") == 0)
		fork_all((char *[]){argv[0], (char *)"nothing", NULL});
	if (strcmp(argv[1], "cancels") == 0)
		cancel_all();
	done = true;
	for (int t = 0; t < threads; t++)
		pthread_join(places[t].thread, NULL);
	alarm(0);
	printf("%ld %ld %s %d\n", connects, failed, last_error ? strerrorname_np(last_error) : "0",
		held());
	fflush(stdout);
	if (fgets(line, sizeof line, stdin) == NULL)
		return 0;
	printf("%d\n", close_all());
	fflush(stdout);
	while (fgets(line, sizeof line, stdin) != NULL)
		;
	return 0;
}
