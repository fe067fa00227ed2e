/*
 * tuplebind run --lease: hands over to tuplebind-lease, which gets the program a part of the ports
 * and starts it by another tuplebind run.
 */
#pragma once

#include "tools/config/settings.h"

#include <stdbool.h>

/* The options, as run takes them: each sets the variable of its name. */
#define LEASE_OPTIONS                                                                              \
	{"lease", required_argument, NULL, 0x100}, {"lease-ttl", required_argument, NULL, 0x101},  \
		{"lease-wait", required_argument, NULL, 0x102},                                    \
	{                                                                                          \
		"lease-ca", required_argument, NULL, 0x103                                         \
	}

#define LEASE_HELP                                                                                 \
	"  --lease URL       part of the ports from etcd://HOST[:PORT]/NAME (etcds: TLS)\n"     \
	"  --lease-ttl N     seconds until a lease that is not renewed runs out (60)\n"            \
	"  --lease-wait N    seconds to wait for a free part (0)\n"                                \
	"  --lease-ca FILE   trust these certificates instead of the system's\n"

/* Takes an option of LEASE_OPTIONS; false if it is none, or memory is out. */
bool lease_option(int option, const char *value);

/* Whether a lease is asked for, by option or environment. */
bool lease_wanted(void);

/* Takes the /N off --ports LIST/N, which means something with a lease only. 0, or EXIT_TUPLEBIND.
 */
int lease_take_parts(struct settings *s);

/* Becomes tuplebind-lease for this program. Returns only if that fails: EXIT_TUPLEBIND, reason
 * told. */
int lease_become(char **program);
