#include "choose/plan.h"

#include "base/aside.h"
#include "base/hash.h"
#include "base/scratch.h"
#include "kernel/sysctl.h"

#include <assert.h>
#include <bsd/string.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(struct fault *f)
{
	fault_set(f, "out of memory at start");
	return -ENOMEM;
}

static struct rule *add_rule(struct plan *p)
{
	struct rule *more = reallocarray(p->rules, p->rule_count + 1, sizeof *more);

	if (more == NULL)
		return NULL;
	p->rules = more;
	memset(&more[p->rule_count], 0, sizeof *more);
	return &more[p->rule_count++];
}

/* Checks the ports' text and finds or makes the plan's entry for it. */
static int ports_for(struct plan *p, const char *text, struct plan_ports **out, struct fault *f)
{
	struct plan_ports **more;

	for (unsigned i = 0; i < p->ports_count; i++) {
		if (strcmp(p->ports[i]->text, text) == 0) {
			*out = p->ports[i];
			return 0;
		}
	}
	/* NOLINTNEXTLINE(bugprone-sizeof-expression): pointers are what it holds */
	more = reallocarray(p->ports, p->ports_count + 1, sizeof *more);
	if (more == NULL)
		return out_of_memory(f);
	p->ports = more;
	*out = calloc(1, sizeof **out);
	if (*out == NULL)
		return out_of_memory(f);
	/* From here plan_free() sees to it. */
	p->ports[p->ports_count++] = *out;
	if (ports_parse(text, &(*out)->wanted, f) < 0)
		return -EINVAL;
	(*out)->text = strdup(text);
	return (*out)->text == NULL ? out_of_memory(f) : 0;
}

/* Adds a rule for the destinations of @text. */
static int add_rule_for(struct plan *p, const char *text, struct rule **out, struct fault *f)
{
	struct dest d;

	if (dest_parse(text, &d, f) < 0)
		return -EINVAL;
	*out = add_rule(p);
	return *out == NULL || dest_index_add(&p->dests, &d) < 0 ? out_of_memory(f) : 0;
}

static int add_skip(struct plan *p, const char *list, struct fault *f)
{
	struct rule *r;
	char item[128];
	int got;

	while ((got = parse_next(&list, ',', item, sizeof item)) != 0) {
		if (got < 0)
			return fault_set(f, "\"%.60s...\" is too long for a destination", item);
		if (add_rule_for(p, item, &r, f) < 0)
			return -EINVAL;
		r->skip = true;
	}
	return 0;
}

/* Cuts off the blanks around @text. */
static char *trim(char *text)
{
	size_t length;

	text += strspn(text, PARSE_BLANKS);
	length = strlen(text);
	while (length > 0 && strchr(PARSE_BLANKS, text[length - 1]) != NULL)
		text[--length] = '\0';
	return text;
}

/*
 * "DEST=ADDRS[@PORTS]" or "DEST=skip", taken apart in place. *part is the part being read, for
 * the place of a fault.
 */
static int add_one_rule(
	struct plan *p, char *rule, const char *general_ports, char **part, struct fault *f)
{
	char *equals = strchr(rule, '='), *at = strchr(rule, '@');
	struct rule *r;

	*part = rule;
	if (equals == NULL)
		return fault_set(f,
			"\"%.80s\" has no = behind a destination; accepted: DEST=ADDRS[@PORTS] or "
			"DEST=skip",
			rule);
	*equals = '\0';
	if (at != NULL)
		*at = '\0';
	if (add_rule_for(p, trim(rule), &r, f) < 0)
		return -EINVAL;
	*part = trim(equals + 1);
	r->skip = at == NULL && strcmp(*part, "skip") == 0;
	if (r->skip)
		return 0;
	if (pool_parse(*part, &r->pool, f) < 0)
		return -EINVAL;
	if (at != NULL)
		*part = trim(at + 1);
	return ports_for(p, at != NULL ? *part : general_ports, &r->ports, f);
}

static int add_rules(struct plan *p, const char *list, const char *general_ports, struct fault *f)
{
	const char *cursor = list;
	size_t size = strlen(list) + 1;
	char *item = malloc(size);
	unsigned number = 0;
	int error = 0;

	if (item == NULL)
		return out_of_memory(f);
	while (error == 0) {
		struct fault inner = {.text = ""};
		const char *start = cursor + strspn(cursor, PARSE_BLANKS);
		char *part, shown[81];

		if (parse_next(&cursor, ';', item, size) == 0)
			break;
		if (item[0] == '\0')
			continue;
		number++;
		strlcpy(shown, item, sizeof shown);
		error = add_one_rule(p, item, general_ports, &part, &inner);
		if (error < 0)
			fault_set(f, "rule %u, character %td, in \"%s\": %.280s", number,
				start - list + (part - item) + 1, shown, inner.text);
	}
	free(item);
	return error;
}

static int add_general_rule(
	struct plan *p, const struct config *c, const char **variable, struct fault *f)
{
	struct rule *r = add_rule(p);

	if (r == NULL)
		return out_of_memory(f);
	*variable = "TUPLEBIND_ADDRS";
	if (pool_parse(c->addrs, &r->pool, f) < 0)
		return -EINVAL;
	*variable = "TUPLEBIND_PORTS";
	return ports_for(p, c->ports, &r->ports, f);
}

int plan_make(struct plan *p, const struct config *c, struct fault *f)
{
	const char *variable = "TUPLEBIND_SKIP";
	struct fault inner = {.text = ""};
	int error = 0;

	*p = (struct plan){
		.protocols = c->protocols,
		.late = c->backend != BACKEND_EXPLICIT,
		.balance = c->balance,
		.when_full = c->when_full,
		.when_unusable = c->when_unusable,
	};
	if (c->skip != NULL)
		error = add_skip(p, c->skip, &inner);
	if (error == 0 && c->rules != NULL) {
		variable = "TUPLEBIND_RULES";
		error = add_rules(p, c->rules, c->ports, &inner);
	}
	if (error == 0)
		error = add_general_rule(p, c, &variable, &inner);
	if (error == 0 && dest_index_make(&p->dests) < 0)
		error = out_of_memory(&inner);
	if (error < 0) {
		fault_set(f, "%s: %.360s", variable, inner.text);
		return error;
	}
	return 0;
}

void plan_free(struct plan *p)
{
	for (unsigned i = 0; i < p->ports_count; i++) {
		free((char *)p->ports[i]->text);
		free(p->ports[i]);
	}
	for (unsigned i = 0; i < p->rule_count; i++)
		pool_free(&p->rules[i].pool);
	dest_index_free(&p->dests);
	free(p->ports);
	free(p->rules);
	*p = (struct plan){0};
}

/* Sets of ports are large: they are worked on in the scratch memory. */
struct bench {
	struct portset offered, wanted, by_late;
};

static_assert(sizeof(struct bench) <= SCRATCH_SIZE, "the sets of ports have room there");

/* What the ports depend on, in a number that is not 0. */
static uint64_t hash_offer(const struct portset *offered, bool late)
{
	static const struct hash_key any;

	return hash_words(&any, offered->words, 1024) << 2 | 2 | late;
}

static void work_out(struct plan *p, struct bench *b, bool late)
{
	for (unsigned i = 0; i < p->ports_count; i++) {
		struct plan_ports *ports = p->ports[i];

		ports_resolve(&ports->wanted, &b->offered, &b->wanted);
		/*
		 * Late bind has the kernel look for the port, and it looks only where it
		 * would for itself: within its range, past the reserved ports.
		 */
		if (late)
			b->by_late = b->wanted;
		else
			portset_clear(&b->by_late);
		portset_keep(&b->by_late, &b->offered);
		portorder_set(&ports->order, p->permutation, &b->by_late, &b->wanted);
	}
}

/* Whoever has the scratch memory is the only one here. */
static int read_and_set(struct plan *p, struct bench *b)
{
	bool late = atomic_load_explicit(&p->late, memory_order_relaxed);
	/* The whole range is of no interest. */
	int error = sysctl_ports(&b->wanted, &b->offered);

	if (error < 0 && p->known != 0)
		return 0;
	uint64_t hash = hash_offer(&b->offered, late);
	if (hash == p->known)
		return 0;
	work_out(p, b, late);
	p->known = hash;
	return 1;
}

int plan_set_ports(struct plan *p)
{
	/* A thread that has gone into another namespace would read that one's ports. */
	if (p->home != NULL && !netns_is_here(p->home))
		return 0;
	struct bench *b = scratch_take();
	atomic_store_explicit(
		&p->looked, b != NULL ? aside_now() : UINT64_MAX, memory_order_relaxed);
	if (b == NULL)
		return -EBUSY;
	int changed = read_and_set(p, b);
	scratch_put();
	return changed;
}

bool plan_look_at_ports(struct plan *p)
{
	uint64_t now = aside_now();

	/* One thread a second, and nobody waits for it. */
	return atomic_load_explicit(&p->looked, memory_order_relaxed) != now &&
	       atomic_exchange_explicit(&p->looked, now, memory_order_relaxed) != now &&
	       plan_set_ports(p) == 1;
}

bool plan_serves(const struct plan *p, const struct addr *faddr, uint16_t fport,
	const struct rule **rule, enum tuplebind_counter *why)
{
	*rule = plan_rule(p, faddr, fport);
	*why = (*rule)->skip ? TUPLEBIND_PASSED_SKIPPED : TUPLEBIND_PASSED_SPECIAL;
	return !(*rule)->skip && fport != 0 && !addr_is_multicast(faddr) &&
	       !addr_is_broadcast(faddr);
}

bool plan_resolve_any(const struct rule *rule, bool address_given, struct addr *faddr)
{
	if (!addr_is_any(faddr))
		return true;
	if (address_given || pool_serves(&rule->pool, faddr))
		return false;
	addr_loopback(faddr);
	return true;
}
