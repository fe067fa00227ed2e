#include "kernel/sysctl.h"

#include "base/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RANGE_FILE    "/proc/sys/net/ipv4/ip_local_port_range"
#define RESERVED_FILE "/proc/sys/net/ipv4/ip_local_reserved_ports"

/*
 * Reads pairs "a-b", "a b" (when @blank_joins) or single ports and has @take add them to @set or
 * take them out of it. Returns how many ranges it read, or -errno.
 */
static int read_ranges(const char *file, bool blank_joins,
	void (*take)(struct portset *s, uint16_t first, uint16_t last), struct portset *set)
{
	struct reader r;
	unsigned long number = 0, first = 0;
	bool digits = false, joined = false;
	int ranges = 0, byte;

	if (!reader_open(&r, file))
		return -errno;
	do {
		byte = reader_next(&r);
		if (byte >= '0' && byte <= '9') {
			/* More digits than any port has must not come round to one. */
			if (number <= UINT16_MAX)
				number = number * 10 + (unsigned long)(byte - '0');
			digits = true;
			continue;
		}
		if (!digits)
			continue;
		if (number > UINT16_MAX) {
			/* No port, and the end of no range. */
			joined = false;
		} else if (!joined &&
			   (byte == '-' || (blank_joins && (byte == '\t' || byte == ' ')))) {
			first = number;
			joined = true;
		} else {
			take(set, (uint16_t)(joined ? first : number), (uint16_t)number);
			joined = false;
			ranges++;
		}
		number = 0;
		digits = false;
	} while (byte >= 0);
	syscall(SYS_close, r.fd);
	return ranges;
}

int sysctl_ports(struct portset *range, struct portset *free_ports)
{
	portset_clear(range);
	int error = read_ranges(RANGE_FILE, true, portset_add_range, range);
	if (error <= 0 || portset_count(range) == 0)
		portset_add_range(range, 32768, 60999);
	*free_ports = *range;
	if (error > 0)
		error = read_ranges(RESERVED_FILE, false, portset_remove_range, free_ports);
	return error < 0 ? error : 0;
}
