#include "tools/status/http.h"

#include "tools/common/clock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Waits for one of @events on @fd until @deadline. */
static bool wait_for(int fd, short events, uint64_t deadline)
{
	struct pollfd file = {.fd = fd, .events = events};
	int got;

	do {
		uint64_t now = clock_ms(CLOCK_MONOTONIC);

		got = poll(&file, 1, now < deadline ? (int)(deadline - now) : 0);
	} while (got < 0 && errno == EINTR);
	return got > 0;
}

/*
 * Reads up to the empty line, or until text is full or time is up; NUL-terminated, and there may be
 * NULs in it. 1: there is an empty line, 0: there is none, or -errno.
 */
static int read_head(char *text, size_t size, size_t *read_bytes)
{
	uint64_t deadline = clock_ms(CLOCK_MONOTONIC) + UINT64_C(1000) * HTTP_SECONDS;
	size_t length = 0;

	while (length < size - 1 && wait_for(STDIN_FILENO, POLLIN, deadline)) {
		ssize_t got = read(STDIN_FILENO, text + length, size - 1 - length);

		if (got <= 0)
			return got < 0 ? -errno : -ECONNRESET;
		length += (size_t)got;
		text[length] = '\0';
		if (memmem(text, length, "\r\n\r\n", 4) != NULL ||
			memmem(text, length, "\n\n", 2) != NULL)
			return 1;
	}
	text[length] = '\0';
	*read_bytes = length;
	return 0;
}

/* The path of "GET /path?query HTTP/1.1", in its place; NULL: not such a line. */
static char *cut_path(char *line)
{
	char *path = strchr(line, ' ');
	char *end = path != NULL ? strchr(path + 1, ' ') : NULL;

	if (end == NULL || path[1] != '/' || strncmp(end, " HTTP/1.", 8) != 0)
		return NULL;
	*path++ = '\0';
	*end = '\0';
	path[strcspn(path, "?")] = '\0';
	return path;
}

int http_read(struct http_request *r)
{
	char text[HTTP_REQUEST_MAX + 1];
	size_t length = 0;
	int whole = read_head(text, sizeof text, &length);

	*r = (struct http_request){.head = false};
	if (whole < 0)
		return whole;
	if (whole == 0) {
		r->refusal = length < HTTP_REQUEST_MAX ? "408 Request Timeout"
						       : "431 Request Header Fields Too Large";
		return 0;
	}
	text[strcspn(text, "\r\n")] = '\0';
	char *path = cut_path(text);
	r->head = path != NULL && strcmp(text, "HEAD") == 0;
	if (path == NULL)
		r->refusal = "400 Bad Request";
	else if (strcmp(text, "GET") != 0 && !r->head)
		r->refusal = "405 Method Not Allowed";
	else if (strcmp(path, "/metrics") != 0 && strcmp(path, "/") != 0)
		r->refusal = "404 Not Found";
	return 0;
}

static int write_all(const char *bytes, size_t length)
{
	uint64_t deadline = clock_ms(CLOCK_MONOTONIC) + UINT64_C(1000) * HTTP_SECONDS;

	for (size_t at = 0; at < length;) {
		if (!wait_for(STDOUT_FILENO, POLLOUT, deadline))
			return -ETIMEDOUT;
		ssize_t put = write(STDOUT_FILENO, bytes + at, length - at);

		if (put < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		at += put > 0 ? (size_t)put : 0;
	}
	return 0;
}

/* Reads what is left of a request: closing with something unread would take the answer back. */
static void linger(void)
{
	uint64_t deadline = clock_ms(CLOCK_MONOTONIC) + UINT64_C(1000) * HTTP_SECONDS;
	char rest[4096];

	if (shutdown(STDOUT_FILENO, SHUT_WR) < 0)
		return;
	for (int i = 0; i < 64 && wait_for(STDIN_FILENO, POLLIN, deadline); i++)
		if (read(STDIN_FILENO, rest, sizeof rest) <= 0)
			break;
}

int http_answer(const struct http_request *r, const char *type, const char *body, size_t length)
{
	/* Or one write() of a large text could wait for ever; a pipe has no such thing. */
	struct timeval limit = {.tv_sec = HTTP_SECONDS};
	char head[512], refusal[64];

	setsockopt(STDOUT_FILENO, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	signal(SIGPIPE, SIG_IGN);
	if (r->refusal != NULL) {
		length = (size_t)snprintf(refusal, sizeof refusal, "%s\n", r->refusal);
		type = "text/plain";
		body = refusal;
	}
	int head_length = snprintf(head, sizeof head,
		"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: "
		"close\r\n\r\n",
		r->refusal ? r->refusal : "200 OK", type, length);
	int error = write_all(head, (size_t)head_length);
	if (error == 0 && !r->head)
		error = write_all(body, length);
	if (error == 0)
		linger();
	return error;
}
