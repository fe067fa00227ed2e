/*
 * The few calls of etcd (API version 3, by its HTTP gateway) that a lease of ports takes.
 *
 * Keys, values and lease numbers are plain here; base64 and numbers as strings are the gateway's.
 * All calls block for a bounded time (see http.h) and return 0 or -errno with the fault told in
 * @e->fault. Whatever the server sends is checked before it is used.
 */
#pragma once

#include "tools/lease/http.h"

#include <stdint.h>

#define ETCD_VALUE_MAX 512

struct etcd {
	struct http http;
	struct fault fault; /* of the last call that failed */
};

/* A key as etcd has it. */
struct etcd_entry {
	char key[256], value[ETCD_VALUE_MAX]; /* cut where they are longer */
	int64_t lease;			      /* 0: none */
};

/* Makes the lease number @id. *ttl: the seconds wanted, and then those granted. */
int etcd_grant(struct etcd *e, int64_t id, unsigned *ttl);

/* Ends a lease and deletes its keys. No such lease: -ENOENT. */
int etcd_revoke(struct etcd *e, int64_t id);

/* Renews a lease. *ttl: the seconds it has now, 0 when there is none of that number. */
int etcd_keep_alive(struct etcd *e, int64_t id, unsigned *ttl);

/* Called with each key found; text that is not a key or value is not shown. */
typedef void etcd_visit(void *context, const struct etcd_entry *entry);

/* Visits the keys that begin with @prefix. */
int etcd_list(struct etcd *e, const char *prefix, etcd_visit *visit, void *context);

/* Makes the condition of a transaction that a key does not exist, or none that begins with it. */
json_t *etcd_if_absent(const char *key, bool prefix);
json_t *etcd_if_value(const char *key, const char *value);
json_t *etcd_if_lease(const char *key, int64_t lease);

/* The operation that writes a key; @lease 0: for good. */
json_t *etcd_put(const char *key, const char *value, int64_t lease);

/*
 * Does @then (an operation or NULL) if all @conditions (an array) hold. *held: whether they did.
 * Takes over both.
 */
int etcd_transact(struct etcd *e, json_t *conditions, json_t *then, bool *held);
