/*
 * Requests to one HTTP server, JSON there and JSON back.
 *
 * A request blocks its caller for a bounded time, and while it waits it serves the caller's
 * other events: descriptors are waited for along with the server, and a turn function is called
 * that handles them and may call the request off. So one thread does everything, and a server
 * that hangs delays nothing but its own answer.
 *
 * It talks to the server named and to nobody else: no proxy of the environment, no redirection,
 * no .netrc. Answers are bounded. Between requests it has no connection, and none in TIME_WAIT.
 */
#pragma once

#include "base/parse.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdbool.h>

#define HTTP_ANSWER_MAX (4u << 20)

/* Called at least once a second while a request waits. False: call the request off. */
typedef bool http_turn(void *context);

struct http {
	CURLM *multi;
	CURL *easy;
	struct curl_slist *headers;
	char base[320]; /* "http://host:port" */
	long timeout_ms;
	http_turn *turn; /* NULL: none */
	void *context;	 /* of turn */
	struct curl_waitfd *waited;
	unsigned waited_count;
};

/*
 * Prepares requests to @base; @ca is a file of certificates to trust instead of the system's, or
 * NULL. Returns 0, or -EINVAL with the fault told. http_close() in any case.
 */
int http_open(struct http *h, const char *base, const char *ca, long timeout_ms, struct fault *f);
void http_close(struct http *h);

/*
 * Posts @body (taken over) to base + @path. Returns the HTTP status, with *answer the JSON object
 * of its body, the caller's; or -errno with the fault told: -ECANCELED (called off), -EIO (no
 * answer), -EPROTO (an answer that is not a JSON object).
 */
int http_post(struct http *h, const char *path, json_t *body, json_t **answer, struct fault *f);
