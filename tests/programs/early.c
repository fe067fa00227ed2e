/*
 * early.so: a preload whose constructor and destructor make the calls that tuplebind takes over.
 *
 * Put behind tuplebind in LD_PRELOAD, its constructor runs before tuplebind's and its destructor
 * after it. EARLY_PORT on 127.0.0.1 is what it connects to; a call that fails ends the program.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define EXIT_EARLY 99

static void need(int result, const char *call)
{
	if (result >= 0)
		return;
	dprintf(STDERR_FILENO, "early: %s: %s\n", call, strerror(errno));
	_exit(EXIT_EARLY);
}

static void use_all(void)
{
	const char *port = getenv("EARLY_PORT");
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons((uint16_t)atoi(port ? port : "0")),
	};
	int fd = socket(AF_INET, SOCK_STREAM, 0), copies[4];

	need(fd, "socket");
	need(connect(fd, (struct sockaddr *)&to, sizeof to), "connect");
	need(copies[0] = dup(fd), "dup");
	need(copies[1] = dup2(fd, 100), "dup2");
	need(copies[2] = dup3(fd, 101, O_CLOEXEC), "dup3");
	need(copies[3] = fcntl(fd, F_DUPFD, 102), "fcntl");
	for (int i = 0; i < 4; i++)
		need(close(copies[i]), "close");
	need(close_range((unsigned)fd, (unsigned)fd, 0), "close_range");
}

__attribute__((constructor)) static void before(void)
{
	use_all();
}

__attribute__((destructor)) static void after(void)
{
	use_all();
}
