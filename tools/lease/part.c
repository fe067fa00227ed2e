#include "tools/lease/part.h"

#include "base/random.h"
#include "choose/ports.h"

#include <bsd/string.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define AGREE_TRIES  5
#define TAKE_TRIES   (2 * PORTS_PARTS_MAX)
#define HOLDERS_TOLD 8

/* What stands under the name. */
struct seen {
	size_t prefix_length;
	unsigned count; /* 0: not written yet */
	bool junk;	/* what is written is no count */
	unsigned taken, told;
	bool parts[PORTS_PARTS_MAX + 1];
	unsigned wanted_holder; /* 0: tell of all */
	char holders[512];
};

static void count_key(const struct part *p, char key[static 128])
{
	snprintf(key, 128, "/tuplebind/%s/count", p->name);
}

void part_init(struct part *p, struct etcd *e, const char *name, unsigned ttl)
{
	*p = (struct part){.etcd = e, .name = name, .ttl_wanted = ttl};
}

static void tell_holder(struct seen *s, unsigned part, const char *value)
{
	json_t *holder = json_loads(value, 0, NULL);
	const char *host = json_string_value(json_object_get(holder, "host"));
	char told[128];

	snprintf(told, sizeof told, "%s%u by %.64s (pid %lld)", s->told ? ", " : "", part,
		host ? host : "somebody",
		(long long)json_integer_value(json_object_get(holder, "pid")));
	strlcat(s->holders, told, sizeof s->holders);
	s->told++;
	json_decref(holder);
}

static void see(void *context, const struct etcd_entry *entry)
{
	static const char parts[] = "parts/";
	struct seen *s = context;
	uint64_t number;

	if (strlen(entry->key) <= s->prefix_length)
		return;
	const char *rest = entry->key + s->prefix_length;
	if (strcmp(rest, "count") == 0) {
		s->junk = parse_number(entry->value, 1, PORTS_PARTS_MAX, &number) < 0;
		s->count = s->junk ? 0 : (unsigned)number;
	} else if (strncmp(rest, parts, strlen(parts)) == 0 &&
		   parse_number(rest + strlen(parts), 1, PORTS_PARTS_MAX, &number) == 0) {
		s->parts[number] = true;
		s->taken++;
		if (s->wanted_holder ? s->wanted_holder == number : s->told < HOLDERS_TOLD)
			tell_holder(s, (unsigned)number, entry->value);
	}
}

static int look(struct part *p, struct seen *s, unsigned wanted_holder)
{
	char prefix[128];

	snprintf(prefix, sizeof prefix, "/tuplebind/%s/", p->name);
	*s = (struct seen){.prefix_length = strlen(prefix), .wanted_holder = wanted_holder};
	return etcd_list(p->etcd, prefix, see, s);
}

/* Writes the count where neither it nor any part is there. */
static int write_count(struct part *p, unsigned count)
{
	char key[128], parts[128], value[16];
	bool held;

	count_key(p, key);
	snprintf(parts, sizeof parts, "/tuplebind/%s/parts/", p->name);
	snprintf(value, sizeof value, "%u", count);
	return etcd_transact(p->etcd,
		json_pack("[o,o]", etcd_if_absent(key, false), etcd_if_absent(parts, true)),
		etcd_put(key, value, 0), &held);
}

int part_agree(struct part *p, unsigned wanted)
{
	struct fault *f = &p->etcd->fault;
	struct seen seen;
	int error = look(p, &seen, 0);

	for (int i = 0; error == 0 && seen.count == 0 && i < AGREE_TRIES; i++) {
		if (seen.junk)
			return fault_set(f,
				"the key /tuplebind/%s/count does not hold a number from 1 to %d; "
				"delete "
				"it if nobody shares ports under this name",
				p->name, PORTS_PARTS_MAX);
		if (seen.taken > 0)
			return fault_set(f,
				"parts of \"%s\" are taken, but how many there are (the key "
				"/tuplebind/%s/count) was deleted; wait until they have ended",
				p->name, p->name);
		error = write_count(p, wanted ? wanted : PART_COUNT_PRESET);
		if (error == 0)
			error = look(p, &seen, 0);
	}
	if (error < 0)
		return error;
	if (seen.count == 0)
		return fault_set(f, "the key /tuplebind/%s/count does not stay written", p->name);
	if (wanted != 0 && wanted != seen.count)
		return fault_set(f,
			"\"%s\" has %u parts, not %u; all hosts must share in the same number: "
			"name "
			"/%u, or none",
			p->name, seen.count, wanted, seen.count);
	p->count = seen.count;
	return 0;
}

static int64_t draw_lease(void)
{
	uint64_t random = 0;

	random_bytes(&random, sizeof random);
	return (int64_t)(random >> 1 | 1);
}

/* A free part, each as likely as any other; 0: none. */
static unsigned draw_part(const struct seen *s, unsigned count)
{
	unsigned free_parts[PORTS_PARTS_MAX], found = 0;
	uint64_t random;

	for (unsigned i = 1; i <= count; i++)
		if (!s->parts[i])
			free_parts[found++] = i;
	random_bytes(&random, sizeof random);
	return found ? free_parts[random % found] : 0;
}

static void describe_holder(struct part *p, int pid)
{
	char host[65] = "", now[32] = "";
	time_t seconds = time(NULL);
	struct tm utc;

	gethostname(host, sizeof host - 1);
	if (gmtime_r(&seconds, &utc) != NULL)
		strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &utc);
	json_t *holder = json_pack("{s:s,s:i,s:s}", "host", host, "pid", pid, "time", now);
	char *text = holder ? json_dumps(holder, JSON_COMPACT) : NULL;
	strlcpy(p->value, text ? text : "{}", sizeof p->value);
	free(text);
	json_decref(holder);
}

/* Makes the part's key if it is free and the count is still the one agreed on. */
static int write_part(struct part *p, bool *held)
{
	char key[128], count[16];

	count_key(p, key);
	snprintf(count, sizeof count, "%u", p->count);
	return etcd_transact(p->etcd,
		json_pack("[o,o]", etcd_if_absent(p->key, false), etcd_if_value(key, count)),
		etcd_put(p->key, p->value, p->lease), held);
}

/* Gets a lease of a number of our own, which can be revoked even if the answer is lost. */
static int grant(struct part *p, unsigned ttl)
{
	p->lease = draw_lease();
	p->ttl = ttl;
	return etcd_grant(p->etcd, p->lease, &p->ttl);
}

static void revoke_quietly(struct part *p)
{
	struct fault told = p->etcd->fault;

	part_give_back(p);
	p->etcd->fault = told;
}

static int try_parts(struct part *p)
{
	for (int i = 0; i < TAKE_TRIES; i++) {
		uint64_t before = boot_ms();
		struct seen seen;
		bool held;
		int error = look(p, &seen, 0);

		if (error < 0)
			return error;
		unsigned part = draw_part(&seen, p->count);
		if (part == 0) {
			fault_set(&p->etcd->fault, "all %u parts of \"%s\" are taken: %.240s%s",
				p->count, p->name, seen.holders,
				seen.taken > seen.told ? ", ..." : "");
			return -EAGAIN;
		}
		if (p->lease == 0 && (error = grant(p, p->ttl_wanted)) < 0)
			return error;
		if (i > 0 && (error = etcd_keep_alive(p->etcd, p->lease, &p->ttl)) < 0)
			return error;
		snprintf(p->key, sizeof p->key, "/tuplebind/%s/parts/%u", p->name, part);
		if ((error = write_part(p, &held)) < 0)
			return error;
		if (held) {
			p->number = part;
			p->held_until = before + UINT64_C(1000) * p->ttl;
			return 0;
		}
	}
	fault_set(&p->etcd->fault,
		"no part of \"%s\" can be taken: others are quicker, or /tuplebind/%s/count was "
		"changed",
		p->name, p->name);
	return -EAGAIN;
}

int part_take(struct part *p, int pid)
{
	describe_holder(p, pid);
	int error = try_parts(p);
	if (error < 0 && p->lease != 0) {
		/* Even when it was called off. */
		http_turn *turn = p->etcd->http.turn;

		p->etcd->http.turn = NULL;
		revoke_quietly(p);
		p->etcd->http.turn = turn;
		p->lease = 0;
	}
	return error;
}

/* Whether the part's key is there and bound to our lease. */
static int is_ours(struct part *p, bool *ours)
{
	return etcd_transact(
		p->etcd, json_pack("[o]", etcd_if_lease(p->key, p->lease)), NULL, ours);
}

int part_renew(struct part *p)
{
	uint64_t before = boot_ms();
	bool ours = false;
	unsigned ttl;
	int error = etcd_keep_alive(p->etcd, p->lease, &ttl);

	if (error == 0 && ttl > 0)
		error = is_ours(p, &ours);
	if (error < 0)
		return error;
	if (!ours) {
		fault_set(&p->etcd->fault,
			ttl > 0 ? "its key was deleted" : "etcd does not know the lease any more");
		return -ENOENT;
	}
	p->ttl = ttl;
	p->held_until = before + UINT64_C(1000) * ttl;
	return 0;
}

static int tell_other_holder(struct part *p)
{
	struct seen seen;
	int error = look(p, &seen, p->number);

	if (error < 0)
		return error;
	fault_set(&p->etcd->fault, "taken: %s",
		seen.told ? seen.holders : "by somebody, who has left by now");
	return -EBUSY;
}

int part_regain(struct part *p)
{
	uint64_t before = boot_ms();
	unsigned ttl;
	bool held;
	/* The lease may have outlived the silence, and an attempt made it whose answer was lost. */
	int error = etcd_keep_alive(p->etcd, p->lease, &ttl);

	if (error == 0 && ttl == 0)
		error = grant(p, p->ttl_wanted);
	else if (error == 0)
		p->ttl = ttl;
	if (error < 0 || (error = is_ours(p, &held)) < 0)
		return error;
	/* An etcd that has lost its memory has lost the count, too. */
	if (!held &&
		((error = part_agree(p, p->count)) < 0 || (error = write_part(p, &held)) < 0)) {
		revoke_quietly(p);
		return error;
	}
	if (held) {
		p->held_until = before + UINT64_C(1000) * p->ttl;
		return 0;
	}
	error = tell_other_holder(p);
	revoke_quietly(p);
	return error;
}

int part_leave(struct part *p, unsigned seconds, unsigned *left)
{
	int64_t old = p->lease;
	bool held = false;

	*left = p->ttl;
	if (p->ttl >= seconds)
		return part_renew(p);
	/* A lease cannot be made longer, but the key can be moved to another one. */
	int error = grant(p, seconds);
	if (error == 0)
		error = etcd_transact(p->etcd, json_pack("[o]", etcd_if_lease(p->key, old)),
			etcd_put(p->key, p->value, p->lease), &held);
	if (error == 0 && held) {
		*left = p->ttl;
		return etcd_revoke(p->etcd, old);
	}
	if (error == 0)
		error = fault_set(&p->etcd->fault, "it is not ours any more");
	revoke_quietly(p);
	return error;
}

int part_give_back(struct part *p)
{
	int error = etcd_revoke(p->etcd, p->lease);

	return error == -ENOENT ? 0 : error;
}
