/*
 * claims FILE [strangers]: prints what a tuple table holds, one claim a line: protocol, local
 * address and port, foreign address and port. Or the ports on which strangers' UDP sockets were
 * met.
 *
 * Uses nothing but the public header, as any other reader would.
 */
#include "tuplebind/table.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static unsigned port_at(const struct tuplebind_header *h, unsigned position)
{
	unsigned left = position >> 8, right = position & 0xff;

	for (int round = 0; round < TUPLEBIND_ROUNDS; round++) {
		unsigned next = left ^ h->rounds[round][right];

		left = right;
		right = next;
	}
	return left << 8 | right;
}

static void format(const uint8_t address[16], char out[INET6_ADDRSTRLEN])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	int v4 = memcmp(address, mapped, sizeof mapped) == 0;

	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? address + 12 : address, out, INET6_ADDRSTRLEN);
}

static void print_slab(const struct tuplebind_header *h, const struct tuplebind_slab *slab)
{
	char laddr[INET6_ADDRSTRLEN], faddr[INET6_ADDRSTRLEN];
	struct tuplebind_lane lane;

	if ((slab->tag & TUPLEBIND_SLAB_STATE_MASK) != TUPLEBIND_SLAB_LIVE)
		return;
	memcpy(&lane, (const void *)slab->lane, sizeof lane);
	format(lane.laddr, laddr);
	format(lane.faddr, faddr);
	for (unsigned bit = 0; bit < TUPLEBIND_SLAB_PORTS; bit++)
		if (slab->claims[bit / 64] >> (bit % 64) & 1)
			printf("%s %s %u %s %u\n", lane.protocol == IPPROTO_UDP ? "udp" : "tcp",
				laddr,
				port_at(h, (unsigned)slab->number * TUPLEBIND_SLAB_PORTS + bit),
				faddr, lane.fport);
}

int main(int argc, char **argv)
{
	struct stat st;
	int fd = argc == 2 || argc == 3 ? open(argv[1], O_RDONLY) : -1;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(struct tuplebind_header)) {
		fprintf(stderr, "usage: claims FILE [strangers]\n");
		return 2;
	}
	const struct tuplebind_header *h =
		mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (h == MAP_FAILED || h->identity.magic != TUPLEBIND_TABLE_MAGIC ||
		h->identity.version != TUPLEBIND_TABLE_VERSION) {
		fprintf(stderr, "claims: %s is not a table of this version\n", argv[1]);
		return 1;
	}
	for (unsigned port = 0; argc == 3 && port <= UINT16_MAX; port++)
		if (h->udp_strangers[port / 64] >> (port % 64) & 1)
			printf("%u\n", port);
	if (argc == 3)
		return 0;
	const char *end = (const char *)h + st.st_size;
	for (const struct tuplebind_slab *slab =
			(const void *)((const char *)h + h->identity.slab_offset);
		(const char *)(slab + 1) <= end; slab++)
		print_slab(h, slab);
	return 0;
}
