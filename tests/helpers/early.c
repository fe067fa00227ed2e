/*
 * early.so: a preload whose constructor and destructor make the calls that tuplebind takes over.
 *
 * Put behind tuplebind in LD_PRELOAD, its constructor runs before tuplebind's and its destructor
 * after it. EARLY_PORT on 127.0.0.1 is what it connects to; a call that fails ends the program.
 * With EARLY_THREADS the constructor starts so many threads that connect and close a while, and the
 * destructor waits for them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define EXIT_EARLY 99
#define THREADS	   16
#define ROUNDS	   300

static pthread_t threads[THREADS];
static int thread_count;

static void need(int result, const char *call)
{
	if (result >= 0)
		return;
	dprintf(STDERR_FILENO, "early: %s: %s\n", call, strerror(errno));
	_exit(EXIT_EARLY);
}

static int connected(void)
{
	const char *port = getenv("EARLY_PORT");
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons((uint16_t)atoi(port ? port : "0")),
	};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	need(fd, "socket");
	need(connect(fd, (struct sockaddr *)&to, sizeof to), "connect");
	return fd;
}

static void use_all(void)
{
	int fd = connected(), copies[4];

	need(copies[0] = dup(fd), "dup");
	need(copies[1] = dup2(fd, 100), "dup2");
	need(copies[2] = dup3(fd, 101, O_CLOEXEC), "dup3");
	need(copies[3] = fcntl(fd, F_DUPFD, 102), "fcntl");
	for (int i = 0; i < 4; i++)
		need(close(copies[i]), "close");
	need(close_range((unsigned)fd, (unsigned)fd, 0), "close_range");
}

static void *connecting(void *unused)
{
	struct linger reset = {.l_onoff = 1};

	for (int i = 0; i < ROUNDS; i++) {
		int fd = connected();

		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		need(close(fd), "close");
	}
	return unused;
}

static void start_threads(void)
{
	const char *wanted = getenv("EARLY_THREADS");

	for (int i = 0; wanted != NULL && i < THREADS && i < atoi(wanted); i++)
		if (pthread_create(&threads[thread_count], NULL, connecting, NULL) == 0)
			thread_count++;
}

__attribute__((constructor)) static void before(void)
{
	use_all();
	start_threads();
}

__attribute__((destructor)) static void after(void)
{
	for (int i = 0; i < thread_count; i++)
		pthread_join(threads[i], NULL);
	use_all();
}
