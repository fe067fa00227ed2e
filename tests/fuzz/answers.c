/*
 * What others send over the network: requests to tuplebind metrics --http, and etcd's answers to
 * tuplebind run --lease.
 *
 * If the input begins with "{", its lines are what an etcd answers, one after the other, the HTTP
 * status behind each by a tabulator; libcurl is not there, this file is in its place. Else it is
 * one HTTP request, which comes in pieces: each ends at a byte 0x01.
 */
#include "fuzz.h"

#include "tools/status/http.h"
#include "tools/lease/part.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#undef curl_easy_setopt
#undef curl_easy_getinfo

/* libcurl, as far as tools/lease/http.c uses it. */

static struct {
	struct input answers;
	curl_write_callback write;
	void *to;
	long status;
	unsigned requests;
} server;

CURLcode curl_global_init(long flags)
{
	return CURLE_OK;
}

CURLM *curl_multi_init(void)
{
	return (CURLM *)&server;
}

CURL *curl_easy_init(void)
{
	return (CURL *)&server;
}

struct curl_slist *curl_slist_append(struct curl_slist *list, const char *text)
{
	static struct curl_slist some;

	return &some;
}

CURLcode curl_easy_setopt(CURL *easy, CURLoption option, ...)
{
	va_list arguments;

	va_start(arguments, option);
	if (option == CURLOPT_WRITEFUNCTION)
		server.write = va_arg(arguments, curl_write_callback);
	else if (option == CURLOPT_WRITEDATA)
		server.to = va_arg(arguments, void *);
	va_end(arguments);
	return CURLE_OK;
}

CURLcode curl_easy_getinfo(CURL *easy, CURLINFO info, ...)
{
	va_list arguments;

	va_start(arguments, info);
	fuzz_check(info == CURLINFO_RESPONSE_CODE);
	*va_arg(arguments, long *) = server.status;
	va_end(arguments);
	return CURLE_OK;
}

void curl_easy_cleanup(CURL *easy)
{
}

void curl_slist_free_all(struct curl_slist *list)
{
}

CURLMcode curl_multi_cleanup(CURLM *multi)
{
	return CURLM_OK;
}

CURLMcode curl_multi_add_handle(CURLM *multi, CURL *easy)
{
	return CURLM_OK;
}

CURLMcode curl_multi_remove_handle(CURLM *multi, CURL *easy)
{
	return CURLM_OK;
}

CURLMcode curl_multi_poll(
	CURLM *multi, struct curl_waitfd *more, unsigned count, int timeout_ms, int *ready)
{
	return CURLM_OK;
}

CURLMcode curl_multi_perform(CURLM *multi, int *running)
{
	*running = 0;
	return CURLM_OK;
}

const char *curl_easy_strerror(CURLcode code)
{
	return "no answer";
}

/* One answer, in two pieces. */
CURLMsg *curl_multi_info_read(CURLM *multi, int *left)
{
	static CURLMsg message;
	static bool told;

	if (told) {
		told = false;
		return NULL;
	}
	told = true;
	/* As often as a hostile server can make it ask. */
	fuzz_check(server.requests++ < 3 * 2 * 1024 + 64, "asks for ever");
	message = (CURLMsg){.msg = CURLMSG_DONE, .data.result = CURLE_OPERATION_TIMEDOUT};
	char *text = input_text(&server.answers, '\n');
	if (text == NULL)
		return &message;
	char *status = strrchr(text, '\t');
	/* libcurl reads three digits. */
	server.status = status != NULL ? labs(atol(status + 1) % 1000) : 200;
	size_t length = status != NULL ? (size_t)(status - text) : strlen(text), half = length / 2;
	bool taken = (half == 0 || server.write(text, 1, half, server.to) == half) &&
		     server.write(text + half, 1, length - half, server.to) == length - half;
	message.data.result = taken ? CURLE_OK : CURLE_WRITE_ERROR;
	free(text);
	return &message;
}

static void check_part(const struct part *p, int error)
{
	fuzz_check(error <= 0 && error >= -4095);
	fuzz_check(p->count <= 1024 && p->number <= p->count, "%u of %u", p->number, p->count);
	fuzz_check(error != 0 || p->ttl <= 1000000000);
	if (error != 0)
		fuzz_check_line(p->etcd->fault.text);
}

static void lease(struct input in)
{
	static struct etcd etcd;
	struct fault f;
	struct part part;
	unsigned left = 0;

	fuzz_random_start();
	server.answers = in;
	server.requests = 0;
	etcd.fault.text[0] = '\0';
	fuzz_check(http_open(&etcd.http, "http://127.0.0.1:2379", NULL, 1000, &f) == 0);
	part_init(&part, &etcd, "web", 60);
	int error = part_agree(&part, (unsigned)in.left % 3 * 8);
	check_part(&part, error);
	/* The fuzzer's words are the first in a chain of questions, or each question is the first.
	 */
	if (part.count == 0)
		part.count = 16;
	error = part_take(&part, 1);
	check_part(&part, error);
	fuzz_check((part.number != 0) == (error == 0));
	if (part.number == 0) {
		part.number = 1;
		part.lease = 1;
		strcpy(part.key, "/tuplebind/web/parts/1");
	}
	check_part(&part, part_renew(&part));
	check_part(&part, part_regain(&part));
	error = part_leave(&part, 120, &left);
	check_part(&part, error);
	check_part(&part, part_give_back(&part));
	http_close(&etcd.http);
}

/* Requests. */

static void check_answer(const char *text, size_t length)
{
	unsigned status, size;
	const char *body = memmem(text, length, "\r\n\r\n", 4);

	fuzz_check(body != NULL && length < 4096);
	fuzz_check(sscanf(text, "HTTP/1.1 %u ", &status) == 1);
	fuzz_check(status == 200 || (status >= 400 && status <= 431));
	const char *field = strstr(text, "\r\nContent-Length: ");
	fuzz_check(field != NULL && sscanf(field, "\r\nContent-Length: %u\r\n", &size) == 1);
	/* Of HEAD there is no body. */
	size_t rest = length - (size_t)(body + 4 - text);
	fuzz_check(rest == size || rest == 0);
}

static void request(struct input in)
{
	static const char body[] = "# EOF\n";
	int ends[2], before[2] = {dup(STDIN_FILENO), dup(STDOUT_FILENO)};
	struct http_request r;
	char *piece;

	/* Each piece is read by itself. */
	fuzz_check(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
	for (int i = 0; i < 8 && (piece = input_text(&in, '\1')) != NULL; i++) {
		size_t length = strlen(piece);

		/* What an empty one says is that there are no more. */
		if (length > 0)
			fuzz_check(send(ends[1], piece, length, 0) == (ssize_t)length);
		free(piece);
	}
	shutdown(ends[1], SHUT_WR);
	dup2(ends[0], STDIN_FILENO);
	dup2(ends[0], STDOUT_FILENO);
	int error = http_read(&r);
	fuzz_check(error <= 0 && error >= -4095);
	if (error == 0) {
		char answer[4096 + 1];
		size_t length = 0;
		ssize_t got;

		fuzz_check(http_answer(&r, "text/plain", body, strlen(body)) == 0);
		while ((got = recv(ends[1], answer + length, sizeof answer - 1 - length,
				MSG_DONTWAIT)) > 0)
			length += (size_t)got;
		answer[length] = '\0';
		check_answer(answer, length);
	}
	dup2(before[0], STDIN_FILENO);
	dup2(before[1], STDOUT_FILENO);
	close(before[0]);
	close(before[1]);
	close(ends[0]);
	close(ends[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};

	if (size > 0 && data[0] == '{')
		lease(in);
	else
		request(in);
	return 0;
}
