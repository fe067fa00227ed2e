/*
 * Addresses in one form.
 *
 * Every local and foreign address is kept as sixteen bytes, IPv4 as
 * ::ffff:a.b.c.d, because the kernel keeps the tuples of an IPv4 socket and of an
 * IPv6 socket with a v4-mapped address in one space: two forms of one address
 * would be two lanes for one set of tuples. Text is read by inet_pton only.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct addr {
	uint8_t bytes[16];
	uint32_t scope; /* interface index; link-local IPv6 addresses only, else 0 */
};

/* Destinations and local addresses only go together within one of these. */
enum addr_reach { ADDR_LOOPBACK, ADDR_LINK, ADDR_GLOBAL };

/* Longest text of an address: IPv6, '%', a ten-digit scope, NUL. */
#define ADDR_TEXT_MAX (INET6_ADDRSTRLEN + 11)

bool addr_is_v4(const struct addr *a);
bool addr_is_any(const struct addr *a);
bool addr_is_multicast(const struct addr *a);
bool addr_is_broadcast(const struct addr *a);
bool addr_equal(const struct addr *a, const struct addr *b);
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
unsigned __int128 addr_number(const struct addr *a);
struct addr addr_from_number(unsigned __int128 number);
