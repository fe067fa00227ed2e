#include "base/addr.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

enum addr_reach addr_reach(const struct addr *a)
{
	if (addr_is_v4(a))
		return a->bytes[12] == 127 ? ADDR_LOOPBACK : ADDR_GLOBAL;
	if (memcmp(a->bytes, in6addr_loopback.s6_addr, 16) == 0)
		return ADDR_LOOPBACK;
	if (a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80)
		return ADDR_LINK;
	return ADDR_GLOBAL;
}

bool addr_goes_with(const struct addr *a, const struct addr *faddr)
{
	return addr_class(a) == addr_class(faddr) &&
	       (addr_reach(a) != ADDR_LINK || a->scope == faddr->scope);
}

void addr_loopback(struct addr *a)
{
	static const uint8_t v4[4] = {127, 0, 0, 1};

	if (addr_is_v4(a))
		memcpy(a->bytes + 12, v4, sizeof v4);
	else
		memcpy(a->bytes, in6addr_loopback.s6_addr, 16);
	a->scope = 0;
}

static void set_v4(struct addr *a, const void *four_bytes)
{
	uint64_t first = 0;

	memcpy(a->bytes, &first, 8);
	memcpy(a->bytes + 8, &(uint32_t){ADDR_V4_PREFIX}, 4);
	memcpy(a->bytes + 12, four_bytes, 4);
	a->scope = 0;
}

bool addr_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct addr *a, uint16_t *port)
{
	/* The caller's memory may be unaligned: copy before looking. */
	if (sa == NULL || len < sizeof(sa_family_t))
		return false;
	sa_family_t family;
	memcpy(&family, sa, sizeof family);
	if (family == AF_INET && len >= sizeof(struct sockaddr_in)) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof in);
		set_v4(a, &in.sin_addr);
		*port = ntohs(in.sin_port);
		return true;
	}
	/* The kernel takes the short form without scope (RFC 2133) as well. */
	if (family == AF_INET6 && len >= offsetof(struct sockaddr_in6, sin6_scope_id)) {
		struct sockaddr_in6 in6 = {0};

		memcpy(&in6, sa, len < sizeof in6 ? len : sizeof in6);
		memcpy(a->bytes, &in6.sin6_addr, 16);
		a->scope = 0;
		if (addr_reach(a) == ADDR_LINK)
			a->scope = in6.sin6_scope_id;
		*port = ntohs(in6.sin6_port);
		return true;
	}
	return false;
}

socklen_t addr_to_sockaddr(
	const struct addr *a, uint16_t port, int family, struct sockaddr_storage *out)
{
	memset(out, 0, sizeof *out);
	if (family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)out;

		if (!addr_is_v4(a))
			return 0;
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, a->bytes + 12, 4);
		return sizeof *in;
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(port);
	memcpy(&in6->sin6_addr, a->bytes, 16);
	in6->sin6_scope_id = a->scope;
	return sizeof *in6;
}

int addr_parse(const char *text, struct addr *a)
{
	uint8_t four[4];

	if (inet_pton(AF_INET, text, four) == 1) {
		set_v4(a, four);
		return 0;
	}
	a->scope = 0;
	return inet_pton(AF_INET6, text, a->bytes) == 1 ? 0 : -EINVAL;
}

/* Decimal digits of @value, no NUL; snprintf is not async-signal-safe. */
static int put_decimal(char *out, uint32_t value)
{
	char digits[10];
	int count = 0, length;

	do {
		digits[count++] = (char)('0' + value % 10);
		value /= 10;
	} while (value != 0);
	length = count;
	while (count > 0)
		*out++ = digits[--count];
	return length;
}

static int put_hex(char *out, unsigned value)
{
	int length = 0;

	for (int shift = 12; shift >= 0; shift -= 4) {
		unsigned digit = (value >> shift) & 0xf;

		if (digit != 0 || length > 0 || shift == 0)
			out[length++] = "0123456789abcdef"[digit];
	}
	return length;
}

static unsigned group(const struct addr *a, int i)
{
	const uint8_t *two = a->bytes + 2L * i;

	return (unsigned)two[0] << 8 | two[1];
}

/* RFC 5952: the longest run of two or more zero groups is written as "::". */
static int longest_zero_run(const struct addr *a, int *length)
{
	int best = -1;

	*length = 1;
	for (int i = 0; i < 8; i++) {
		int end = i;

		while (end < 8 && group(a, end) == 0)
			end++;
		if (end - i > *length) {
			best = i;
			*length = end - i;
		}
		if (end > i)
			i = end;
	}
	return best;
}

int addr_format(const struct addr *a, char out[static ADDR_TEXT_MAX])
{
	int n = 0;

	if (addr_is_v4(a)) {
		for (int i = 12; i < 16; i++) {
			n += put_decimal(out + n, a->bytes[i]);
			out[n++] = '.';
		}
		out[--n] = '\0';
		return n;
	}
	int run, start = longest_zero_run(a, &run);
	for (int i = 0; i < 8; i++) {
		if (i == start) {
			out[n++] = ':';
			if (i == 0)
				out[n++] = ':';
			i += run - 1;
			continue;
		}
		n += put_hex(out + n, group(a, i));
		if (i < 7)
			out[n++] = ':';
	}
	if (a->scope != 0) {
		out[n++] = '%';
		n += put_decimal(out + n, a->scope);
	}
	out[n] = '\0';
	return n;
}

struct addr addr_from_number(unsigned __int128 number)
{
	uint64_t words[] = {htobe64((uint64_t)(number >> 64)), htobe64((uint64_t)number)};
	struct addr a = {.scope = 0};

	memcpy(a.bytes, words, sizeof words);
	return a;
}
