#include "tools/lease/etcd.h"

#include <bsd/string.h>
#include <errno.h>
#include <inttypes.h>
#include <resolv.h>
#include <stdlib.h>
#include <string.h>

#define TTL_MAX                                                                                    \
	1000000000u /* etcd's own is 9,000,000,000; more than any number here should reach */
#define HTTP_OK 200

static json_t *number_text(int64_t number)
{
	char text[24];

	snprintf(text, sizeof text, "%" PRId64, number);
	return json_string(text);
}

static json_t *base64(const char *text)
{
	size_t length = strlen(text), size = length / 3 * 4 + 5;
	char *encoded = malloc(size);
	json_t *result = NULL;

	if (encoded != NULL && b64_ntop((const unsigned char *)text, length, encoded, size) >= 0)
		result = json_string(encoded);
	free(encoded);
	return result;
}

/* False: not base64, or with bytes that no key or value of ours has. */
static bool plain(const json_t *encoded, char *to, size_t size)
{
	const char *text = json_string_value(encoded);
	unsigned char bytes[3 * ETCD_VALUE_MAX];
	int length = 0;

	if (text != NULL && (length = b64_pton(text, bytes, sizeof bytes - 1)) < 0)
		return false;
	bytes[length] = '\0';
	for (int i = 0; i < length; i++)
		if (bytes[i] < ' ' || bytes[i] > '~')
			return false;
	strlcpy(to, (const char *)bytes, size);
	return true;
}

/* The gateway writes 64-bit numbers as strings, and leaves out zeros. */
static int64_t number_of(const json_t *value)
{
	return json_is_string(value) ? strtoll(json_string_value(value), NULL, 10)
				     : json_integer_value(value);
}

/* One call. *answer: an object with etcd's header in it (or in its "result"), the caller's. */
static int call(struct etcd *e, const char *path, json_t *body, json_t **answer)
{
	json_t *got;
	int status = http_post(&e->http, path, body, &got, &e->fault);

	*answer = NULL;
	if (status < 0)
		return status;
	json_t *stream = json_object_get(got, "result"), *result = stream ? stream : got;
	if (status == HTTP_OK && json_is_object(json_object_get(result, "header"))) {
		*answer = json_incref(result);
		json_decref(got);
		return 0;
	}
	const char *error = json_string_value(json_object_get(got, "error"));
	int64_t code = number_of(json_object_get(got, "code"));
	if (status != HTTP_OK)
		fault_set(&e->fault, "%s answered HTTP %d: %.100s", e->http.base, status,
			error ? error : "no reason given");
	else
		fault_set(&e->fault,
			"%s answered JSON, but not etcd's; is that an etcd of version 3.4 or "
			"newer?",
			e->http.base);
	json_decref(got);
	static const int not_found = 5; /* of gRPC */
	return code == not_found ? -ENOENT : -EPROTO;
}

static int read_ttl(struct etcd *e, const json_t *answer, unsigned *ttl)
{
	int64_t number = number_of(json_object_get(answer, "TTL"));

	if (number < 0 || number > TTL_MAX) {
		fault_set(&e->fault, "%s answered with a lease of %" PRId64 " seconds",
			e->http.base, number);
		return -EPROTO;
	}
	*ttl = (unsigned)number;
	return 0;
}

int etcd_grant(struct etcd *e, int64_t id, unsigned *ttl)
{
	json_t *answer;
	int error = call(e, "/v3/lease/grant",
		json_pack("{s:o,s:o}", "ID", number_text(id), "TTL", number_text(*ttl)), &answer);

	if (error == 0 && (error = read_ttl(e, answer, ttl)) == 0 &&
		(*ttl == 0 || number_of(json_object_get(answer, "ID")) != id)) {
		fault_set(&e->fault, "%s did not grant the lease it was asked for", e->http.base);
		error = -EPROTO;
	}
	json_decref(answer);
	return error;
}

int etcd_revoke(struct etcd *e, int64_t id)
{
	json_t *answer;
	int error = call(e, "/v3/lease/revoke", json_pack("{s:o}", "ID", number_text(id)), &answer);

	json_decref(answer);
	return error;
}

int etcd_keep_alive(struct etcd *e, int64_t id, unsigned *ttl)
{
	json_t *answer;
	int error =
		call(e, "/v3/lease/keepalive", json_pack("{s:o}", "ID", number_text(id)), &answer);

	*ttl = 0;
	if (error == 0)
		error = read_ttl(e, answer, ttl);
	json_decref(answer);
	return error == -ENOENT ? 0 : error;
}

/* The key behind all that begin with @prefix, whose last byte is never 0xff. */
static json_t *range_end(const char *prefix)
{
	char end[256];

	if (prefix[0] == '\0' || strlcpy(end, prefix, sizeof end) >= sizeof end)
		return NULL;
	end[strlen(end) - 1]++;
	return base64(end);
}

int etcd_list(struct etcd *e, const char *prefix, etcd_visit *visit, void *context)
{
	json_t *answer, *pair;
	size_t i;
	int error = call(e, "/v3/kv/range",
		json_pack("{s:o,s:o}", "key", base64(prefix), "range_end", range_end(prefix)),
		&answer);

	json_array_foreach(json_object_get(answer, "kvs"), i, pair)
	{
		struct etcd_entry entry = {.lease = number_of(json_object_get(pair, "lease"))};

		if (!plain(json_object_get(pair, "key"), entry.key, sizeof entry.key))
			continue;
		if (!plain(json_object_get(pair, "value"), entry.value, sizeof entry.value))
			strlcpy(entry.value, "?", sizeof entry.value);
		visit(context, &entry);
	}
	json_decref(answer);
	return error;
}

json_t *etcd_if_absent(const char *key, bool prefix)
{
	json_t *condition = json_pack("{s:o,s:s,s:s,s:s}", "key", base64(key), "target", "VERSION",
		"result", "EQUAL", "version", "0");

	if (prefix)
		json_object_set_new(condition, "range_end", range_end(key));
	return condition;
}

json_t *etcd_if_value(const char *key, const char *value)
{
	return json_pack("{s:o,s:s,s:s,s:o}", "key", base64(key), "target", "VALUE", "result",
		"EQUAL", "value", base64(value));
}

json_t *etcd_if_lease(const char *key, int64_t lease)
{
	return json_pack("{s:o,s:s,s:s,s:o}", "key", base64(key), "target", "LEASE", "result",
		"EQUAL", "lease", number_text(lease));
}

json_t *etcd_put(const char *key, const char *value, int64_t lease)
{
	return json_pack("{s:{s:o,s:o,s:o}}", "request_put", "key", base64(key), "value",
		base64(value), "lease", number_text(lease));
}

int etcd_transact(struct etcd *e, json_t *conditions, json_t *then, bool *held)
{
	json_t *answer;
	int error = call(e, "/v3/kv/txn",
		then ? json_pack("{s:o,s:[o]}", "compare", conditions, "success", then)
		     : json_pack("{s:o}", "compare", conditions),
		&answer);

	*held = json_is_true(json_object_get(answer, "succeeded"));
	json_decref(answer);
	return error;
}
