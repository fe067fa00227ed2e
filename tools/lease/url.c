#include "tools/lease/url.h"

#include <arpa/inet.h>
#include <bsd/string.h>
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define ETCD_PORT "2379"
#define FORM                                                                                       \
	"accepted: etcd://HOST[:PORT]/NAME (etcds:// for TLS), an IPv6 address in brackets, NAME " \
	"up "                                                                                      \
	"to 64 of A-Z a-z 0-9 _ - and dots"

static bool is_word(const char *text, const char *others)
{
	for (const char *p = text; *p != '\0'; p++)
		if (!isalnum((unsigned char)*p) && strchr(others, *p) == NULL)
			return false;
	return text[0] != '\0';
}

/* HOST[:PORT] or [V6][:PORT]; @authority is cut into its pieces. */
static int parse_authority(char *authority, const char **host, const char **port)
{
	char *colon = strrchr(authority, ':');
	struct in6_addr v6;
	uint64_t number;

	*host = authority;
	*port = ETCD_PORT;
	if (authority[0] == '[') {
		char *end = strchr(authority, ']');

		if (end == NULL || (end[1] != '\0' && end[1] != ':'))
			return -EINVAL;
		colon = end[1] == ':' ? end + 1 : NULL;
		*end = '\0';
		*host = authority + 1;
		if (inet_pton(AF_INET6, *host, &v6) != 1)
			return -EINVAL;
	}
	if (colon != NULL) {
		*colon = '\0';
		*port = colon + 1;
	}
	if (authority[0] != '[' && !is_word(*host, "-._"))
		return -EINVAL;
	return parse_number(*port, 1, UINT16_MAX, &number);
}

int lease_url_parse(struct lease_url *u, const char *text, struct fault *f)
{
	static const char plain[] = "etcd://", secure[] = "etcds://";
	bool tls = strncmp(text, secure, strlen(secure)) == 0;
	const char *rest = text + strlen(tls ? secure : plain), *host, *port;
	char authority[280];

	/* Not shown: it may hold a password. */
	if (strchr(text, '@') != NULL)
		return fault_set(f, "a user and a password are not supported; " FORM);
	if (!tls && strncmp(text, plain, strlen(plain)) != 0)
		return fault_set(f, "\"%.60s\" is not a place to lease from; " FORM, text);
	const char *slash = strchr(rest, '/');
	if (slash == NULL || strlen(slash + 1) > LEASE_NAME_MAX || !is_word(slash + 1, "_-."))
		return fault_set(f, "\"%.60s\" does not end in a name; " FORM, text);
	strlcpy(u->name, slash + 1, sizeof u->name);
	if ((size_t)(slash - rest) >= sizeof authority)
		return fault_set(f, "\"%.60s...\" is too long; " FORM, text);
	strlcpy(authority, rest, (size_t)(slash - rest) + 1);
	if (parse_authority(authority, &host, &port) < 0)
		return fault_set(f, "\"%.60s\" has no host, or a port that is none; " FORM, text);
	bool v6 = strchr(host, ':') != NULL;
	snprintf(u->base, sizeof u->base, "http%s://%s%s%s:%s", tls ? "s" : "", v6 ? "[" : "", host,
		v6 ? "]" : "", port);
	return 0;
}
