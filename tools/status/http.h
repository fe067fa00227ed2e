/*
 * One answer to one HTTP request, on stdin and stdout: for a socket unit of systemd with
 * Accept=yes.
 *
 * No more is read than HTTP_REQUEST_MAX bytes, and no longer than HTTP_SECONDS. GET and HEAD of
 * /metrics (and of /) are answered; all else is an error of HTTP, which is an answer, too.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define HTTP_REQUEST_MAX 8192
#define HTTP_SECONDS	 5

struct http_request {
	const char *refusal; /* "404 Not Found"; NULL: to be answered */
	bool head;	     /* without the text */
};

/* Reads a request. 0, or -errno when there is nobody to answer. */
int http_read(struct http_request *r);

/* Answers with 200 and @body of @type, or with the refusal. 0 or -errno. */
int http_answer(const struct http_request *r, const char *type, const char *body, size_t length);
