/*
 * The ports the kernel itself would choose from.
 */
#pragma once

#include "base/portset.h"

/*
 * Reads net.ipv4.ip_local_port_range into @range and the same less
 * net.ipv4.ip_local_reserved_ports into @free_ports, for the calling process's network
 * namespace. Returns 0 or -errno (no /proc, say); both hold the kernel's default range,
 * 32768-60999, then. No memory, no cancellation point: two small files, 20 us.
 */
int sysctl_ports(struct portset *range, struct portset *free_ports);
