/*
 * Addresses in one form.
 *
 * Every local and foreign address is kept as sixteen bytes, IPv4 as
 * ::ffff:a.b.c.d, because the kernel keeps the tuples of an IPv4 socket and of an
 * IPv6 socket with a v4-mapped address in one space: two forms of one address
 * would be two lanes for one set of tuples. Text is read by inet_pton only.
 */
#pragma once

#include <endian.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

struct addr {
	uint8_t bytes[16];
	uint32_t scope; /* interface index; link-local IPv6 addresses only, else 0 */
};

/* Destinations and local addresses only go together within one of these. */
enum addr_reach { ADDR_LOOPBACK, ADDR_LINK, ADDR_GLOBAL };

/* Longest text of an address: IPv6, '%', a ten-digit scope, NUL. */
#define ADDR_TEXT_MAX (INET6_ADDRSTRLEN + 11)

/* Bytes 8 to 11 of an IPv4 address, 0:ffff, as a number in memory. */
#define ADDR_V4_PREFIX htobe32(0xffff)

/* The sixteen bytes as numbers in memory order, inline: each connect() asks several of these. */
static inline uint64_t addr_word(const struct addr *a, size_t which)
{
	uint64_t word;

	memcpy(&word, a->bytes + 8 * which, sizeof word);
	return word;
}

static inline uint32_t addr_quarter(const struct addr *a, size_t which)
{
	uint32_t quarter;

	memcpy(&quarter, a->bytes + 4 * which, sizeof quarter);
	return quarter;
}

static inline bool addr_is_v4(const struct addr *a)
{
	return addr_word(a, 0) == 0 && addr_quarter(a, 2) == ADDR_V4_PREFIX;
}

static inline bool addr_is_any(const struct addr *a)
{
	return addr_word(a, 0) == 0 && addr_quarter(a, 3) == 0 &&
	       (addr_quarter(a, 2) == 0 || addr_quarter(a, 2) == ADDR_V4_PREFIX);
}

static inline bool addr_is_multicast(const struct addr *a)
{
	return addr_is_v4(a) ? (a->bytes[12] & 0xf0) == 0xe0 : a->bytes[0] == 0xff;
}

static inline bool addr_is_broadcast(const struct addr *a)
{
	return addr_is_v4(a) && addr_quarter(a, 3) == UINT32_MAX;
}

static inline bool addr_equal(const struct addr *a, const struct addr *b)
{
	return addr_word(a, 0) == addr_word(b, 0) && addr_word(a, 1) == addr_word(b, 1) &&
	       a->scope == b->scope;
}

/* The same address, whatever their scopes say. */
static inline bool addr_same(const struct addr *a, const struct addr *b)
{
	return addr_word(a, 0) == addr_word(b, 0) && addr_word(a, 1) == addr_word(b, 1);
}

enum addr_reach addr_reach(const struct addr *a);

/* Family and reach in one number. */
#define ADDR_CLASSES 6

static inline unsigned addr_class(const struct addr *a)
{
	return addr_reach(a) + (addr_is_v4(a) ? 3u : 0u);
}

/* Whether a socket can have the local address @a and the foreign one @faddr. */
bool addr_goes_with(const struct addr *a, const struct addr *faddr);

/* Sets *a to the loopback address of the family of *a. */
void addr_loopback(struct addr *a);

/*
 * Reads address and port (host order) from a sockaddr of @len bytes. Returns
 * false when the family is neither AF_INET nor AF_INET6 or @len is too short for
 * it; nothing is written then.
 */
bool addr_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct addr *a, uint16_t *port);

/*
 * Writes @a and @port (host order) as a sockaddr for a socket of @family
 * (AF_INET or AF_INET6; an IPv4 address becomes v4-mapped on the latter). Returns
 * its length, or 0 when an IPv6 address is asked for on an AF_INET socket.
 */
socklen_t addr_to_sockaddr(
	const struct addr *a, uint16_t port, int family, struct sockaddr_storage *out);

/* Reads "10.0.0.1" or "2001:db8::1" (NUL-terminated). Returns 0 or -EINVAL. */
int addr_parse(const char *text, struct addr *a);

/* Writes the address's text, NUL-terminated; returns its length. Async-signal-safe. */
int addr_format(const struct addr *a, char out[static ADDR_TEXT_MAX]);

/* The address as a 128-bit number, for ranges; and back (scope 0). */
static inline unsigned __int128 addr_number(const struct addr *a)
{
	return (unsigned __int128)be64toh(addr_word(a, 0)) << 64 | be64toh(addr_word(a, 1));
}

struct addr addr_from_number(unsigned __int128 number);
