#include "choose/dest.h"

#include <bsd/string.h>
#include <errno.h>
#include <string.h>

#define DEST_FORM                                                                                  \
	"a destination is ADDRESS[/LENGTH][:PORT], IPv6 with a port as [ADDRESS/LENGTH]:PORT"

int dest_parse_prefix(const char *text, struct dest *d)
{
	char address[INET6_ADDRSTRLEN + 1];
	const char *slash = strchr(text, '/');
	size_t length = slash ? (size_t)(slash - text) : strlen(text);
	uint64_t bits;

	if (length >= sizeof address)
		return -EINVAL;
	memcpy(address, text, length);
	address[length] = '\0';
	if (addr_parse(address, &d->prefix) < 0)
		return -EINVAL;
	unsigned most = addr_is_v4(&d->prefix) ? 32 : 128;
	bits = most;
	if (slash != NULL && parse_number(slash + 1, 0, most, &bits) < 0)
		return -EINVAL;
	d->bits = (unsigned)bits + 128 - most;
	d->port = 0;
	return 0;
}

static int parse_port(const char *text, struct dest *d)
{
	uint64_t port;

	if (parse_number(text, 1, UINT16_MAX, &port) < 0)
		return -EINVAL;
	d->port = (uint16_t)port;
	return 0;
}

int dest_parse(const char *text, struct dest *d, struct fault *f)
{
	char copy[96];
	char *end;
	int error = 0;

	if (strlcpy(copy, text, sizeof copy) >= sizeof copy)
		return fault_set(f, "\"%.60s...\" is too long; " DEST_FORM, text);
	if (copy[0] == '[') {
		end = strchr(copy, ']');
		if (end == NULL || (end[1] != '\0' && end[1] != ':'))
			return fault_set(f, "\"%s\" has no matching bracket; " DEST_FORM, text);
		*end = '\0';
		error = dest_parse_prefix(copy + 1, d);
		if (error == 0 && end[1] == ':')
			error = parse_port(end + 2, d);
	} else if (dest_parse_prefix(copy, d) < 0) {
		end = strrchr(copy, ':');
		if (end == NULL)
			return fault_set(f, "\"%s\" is not a destination; " DEST_FORM, text);
		*end = '\0';
		error = dest_parse_prefix(copy, d);
		if (error == 0)
			error = parse_port(end + 1, d);
	}
	return error == 0 ? 0 : fault_set(f, "\"%s\" is not a destination; " DEST_FORM, text);
}
