/*
 * Where leases come from: etcd://HOST[:PORT]/NAME, or etcds:// for TLS.
 */
#pragma once

#include "base/parse.h"

#define LEASE_NAME_MAX 64

struct lease_url {
	char base[320]; /* "http://HOST:PORT" */
	char name[LEASE_NAME_MAX + 1];
};

/* Reads a URL. Returns 0, or -EINVAL with the fault told. */
int lease_url_parse(struct lease_url *u, const char *text, struct fault *f);
