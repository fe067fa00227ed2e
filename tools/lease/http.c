#include "tools/lease/http.h"

#include <bsd/string.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define TURN_MS 1000

struct answer {
	char *bytes;
	size_t length;
	bool too_long;
};

static size_t receive(char *bytes, size_t one, size_t count, void *context)
{
	struct answer *a = context;

	a->too_long = a->length + count > HTTP_ANSWER_MAX;
	if (a->too_long)
		return CURL_WRITEFUNC_ERROR;
	char *more = realloc(a->bytes, a->length + count + 1);
	if (more == NULL)
		return CURL_WRITEFUNC_ERROR;
	a->bytes = more;
	memcpy(a->bytes + a->length, bytes, count);
	a->length += count;
	return count;
}

/*
 * Our own connections must not linger in TIME_WAIT: they may be on the very ports whose lingering
 * sockets are to be found at the end. The answer has been read when they are closed, so that a
 * reset loses nothing.
 */
static int set_reset(void *context, curl_socket_t fd, curlsocktype purpose)
{
	struct linger reset = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	return CURL_SOCKOPT_OK;
}

int http_open(struct http *h, const char *base, const char *ca, long timeout_ms, struct fault *f)
{
	*h = (struct http){.timeout_ms = timeout_ms};
	strlcpy(h->base, base, sizeof h->base);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
		return fault_set(f, "libcurl cannot be started");
	h->multi = curl_multi_init();
	h->easy = curl_easy_init();
	h->headers = curl_slist_append(NULL, "Content-Type: application/json");
	/* Or curl waits a second for a 100 that etcd does not send. */
	struct curl_slist *more = curl_slist_append(h->headers, "Expect:");
	if (h->multi == NULL || h->easy == NULL || h->headers == NULL || more == NULL)
		return fault_set(f, "libcurl has no memory");
	curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, h->headers);
	curl_easy_setopt(h->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(h->easy, CURLOPT_PROXY, "");
	curl_easy_setopt(h->easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(h->easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(h->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h->easy, CURLOPT_TIMEOUT_MS, timeout_ms);
	curl_easy_setopt(h->easy, CURLOPT_WRITEFUNCTION, receive);
	curl_easy_setopt(h->easy, CURLOPT_SOCKOPTFUNCTION, set_reset);
	curl_easy_setopt(h->easy, CURLOPT_FORBID_REUSE, 1L);
	/* A name server that hangs must not be waited for at the end. */
	curl_easy_setopt(h->easy, CURLOPT_QUICK_EXIT, 1L);
	if (ca != NULL)
		curl_easy_setopt(h->easy, CURLOPT_CAINFO, ca);
	return 0;
}

void http_close(struct http *h)
{
	curl_easy_cleanup(h->easy);
	curl_multi_cleanup(h->multi);
	curl_slist_free_all(h->headers);
}

/* Drives the transfer to its end; a CURLcode, or -ECANCELED. */
static int transfer(struct http *h)
{
	int running = 1, left, result = CURLE_FAILED_INIT;
	CURLMsg *message;

	if (curl_multi_add_handle(h->multi, h->easy) != CURLM_OK)
		return result;
	while (curl_multi_perform(h->multi, &running) == CURLM_OK && running) {
		curl_multi_poll(h->multi, h->waited, h->waited_count, TURN_MS, NULL);
		if (h->turn != NULL && !h->turn(h->context)) {
			result = -ECANCELED;
			break;
		}
	}
	while ((message = curl_multi_info_read(h->multi, &left)) != NULL)
		if (message->msg == CURLMSG_DONE && result != -ECANCELED)
			result = (int)message->data.result;
	curl_multi_remove_handle(h->multi, h->easy);
	return result;
}

/* What a server sends is shown on a terminal: only plain characters of it, and not many. */
static void excerpt(char to[static 64], const char *from, size_t length)
{
	size_t i;

	for (i = 0; i < length && i < 63; i++)
		to[i] = (char)(from[i] >= ' ' && from[i] <= '~' && from[i] != '"' ? from[i] : '.');
	to[i] = '\0';
}

static int understand(
	const struct http *h, const struct answer *a, long status, json_t **answer, struct fault *f)
{
	char seen[64];

	/* etcd answers some requests by a stream of objects; the first one is all there is. */
	*answer = json_loadb(a->bytes ? a->bytes : "", a->length, JSON_DISABLE_EOF_CHECK, NULL);
	if (json_is_object(*answer))
		return (int)status;
	json_decref(*answer);
	*answer = NULL;
	excerpt(seen, a->bytes ? a->bytes : "", a->length);
	fault_set(f,
		"%s answered HTTP %ld and \"%s\", not etcd's JSON; is that an etcd of version 3.4 "
		"or newer?",
		h->base, status, seen);
	return -EPROTO;
}

int http_post(struct http *h, const char *path, json_t *body, json_t **answer, struct fault *f)
{
	struct answer received = {.bytes = NULL};
	char url[400], detail[CURL_ERROR_SIZE] = "";
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	long status = 0;
	int result;

	*answer = NULL;
	json_decref(body);
	if (text == NULL) {
		fault_set(f, "out of memory");
		return -ENOMEM;
	}
	snprintf(url, sizeof url, "%s%s", h->base, path);
	curl_easy_setopt(h->easy, CURLOPT_URL, url);
	curl_easy_setopt(h->easy, CURLOPT_POSTFIELDS, text);
	curl_easy_setopt(h->easy, CURLOPT_WRITEDATA, &received);
	curl_easy_setopt(h->easy, CURLOPT_ERRORBUFFER, detail);
	int code = transfer(h);
	curl_easy_setopt(h->easy, CURLOPT_ERRORBUFFER, (char *)NULL);
	curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &status);
	if (code == CURLE_OK) {
		result = understand(h, &received, status, answer, f);
	} else if (code == -ECANCELED) {
		fault_set(f, "called off");
		result = -ECANCELED;
	} else {
		fault_set(f, "%s: %.160s", h->base,
			received.too_long ? "an answer too long for etcd"
			: detail[0]	  ? detail
					  : curl_easy_strerror((CURLcode)code));
		result = -EIO;
	}
	free(received.bytes);
	free(text);
	return result;
}
