#include "choose/plan.h"

#include "kernel/sysctl.h"

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
	struct ports wanted;

	if (ports_parse(text, &wanted, f) < 0)
		return -EINVAL;
	for (unsigned i = 0; i < p->ports_count; i++) {
		if (strcmp(p->ports[i]->text, text) == 0) {
			*out = p->ports[i];
			return 0;
		}
	}
	more = reallocarray(p->ports, p->ports_count + 1, sizeof *more);
	if (more == NULL)
		return out_of_memory(f);
	p->ports = more;
	*out = calloc(1, sizeof **out);
	if (*out == NULL)
		return out_of_memory(f);
	(*out)->text = strdup(text);
	if ((*out)->text == NULL) {
		free(*out);
		return out_of_memory(f);
	}
	(*out)->wanted = wanted;
	p->ports[p->ports_count++] = *out;
	return 0;
}

static int add_skip(struct plan *p, const char *list, struct fault *f)
{
	char item[128];
	int got;

	while ((got = parse_next(&list, ',', item, sizeof item)) != 0) {
		struct rule *r = add_rule(p);

		if (r == NULL)
			return out_of_memory(f);
		r->skip = true;
		if (got < 0)
			return fault_set(f, "\"%.60s...\" is too long for a destination", item);
		if (dest_parse(item, &r->dest, f) < 0)
			return -EINVAL;
	}
	return 0;
}

/* What follows the '=' of a rule: "ADDRS[@PORTS]" or "skip". */
static int set_rule(struct plan *p, struct rule *r, const char *what, const char *general_ports,
	struct fault *f)
{
	char addrs[2048];
	const char *at = strchr(what, '@');

	if (strcmp(what, "skip") == 0) {
		r->skip = true;
		return 0;
	}
	strlcpy(addrs, what, at ? (size_t)(at - what) + 1 : sizeof addrs);
	if (pool_parse(addrs, &r->pool, f) < 0)
		return -EINVAL;
	return ports_for(p, at ? at + 1 : general_ports, &r->ports, f);
}

/* "DEST=ADDRS[@PORTS]" or "DEST=skip". */
static int add_one_rule(
	struct plan *p, const char *item, const char *general_ports, struct fault *f)
{
	struct rule *r = add_rule(p);
	const char *equals = strchr(item, '=');
	struct fault inner = {.text = ""};
	char destination[128];

	if (r == NULL)
		return out_of_memory(f);
	if (equals == NULL || equals - item >= (long)sizeof destination)
		return fault_set(f,
			"\"%.80s\" has no = behind a destination; accepted: DEST=ADDRS[@PORTS] or "
			"DEST=skip",
			item);
	strlcpy(destination, item, (size_t)(equals - item) + 1);
	int error = dest_parse(destination, &r->dest, &inner);
	if (error == 0)
		error = set_rule(p, r, equals + 1, general_ports, &inner);
	if (error < 0)
		fault_set(f, "in \"%.80s\": %s", item, inner.text);
	return error;
}

static int add_rules(struct plan *p, const char *list, const char *general_ports, struct fault *f)
{
	char item[2048];
	int got, error = 0;

	while (error == 0 && (got = parse_next(&list, ';', item, sizeof item)) != 0) {
		if (got < 0)
			return fault_set(f, "\"%.60s...\" is too long for a rule", item);
		if (item[0] != '\0')
			error = add_one_rule(p, item, general_ports, f);
	}
	return error;
}

static int add_general_rule(
	struct plan *p, const struct config *c, const char **variable, struct fault *f)
{
	struct rule *r = add_rule(p);

	if (r == NULL)
		return out_of_memory(f);
	r->everything = true;
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
	};
	if (c->skip != NULL)
		error = add_skip(p, c->skip, &inner);
	if (error == 0 && c->rules != NULL) {
		variable = "TUPLEBIND_RULES";
		error = add_rules(p, c->rules, c->ports, &inner);
	}
	if (error == 0)
		error = add_general_rule(p, c, &variable, &inner);
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
	free(p->ports);
	free(p->rules);
	*p = (struct plan){0};
}

void plan_set_ports(struct plan *p)
{
	bool late = atomic_load_explicit(&p->late, memory_order_relaxed);
	struct portset range, offered, none;

	portset_clear(&none);
	sysctl_ports(&range, &offered);
	for (unsigned i = 0; i < p->ports_count; i++) {
		struct plan_ports *ports = p->ports[i];
		struct portset wanted;

		ports_resolve(&ports->wanted, &offered, &wanted);
		/*
		 * Late bind has the kernel look for the port, and it looks only where it
		 * would for itself: within its range, past the reserved ports.
		 */
		struct portset by_late = late ? wanted : none;
		portset_keep(&by_late, &offered);
		portorder_set(&ports->order, p->permutation, &by_late, &wanted);
	}
}

const struct rule *plan_rule(const struct plan *p, const struct addr *faddr, uint16_t fport)
{
	const struct rule *r = p->rules;

	/* The general rule is the last one and takes whatever comes to it. */
	while (!r->everything && !dest_matches(&r->dest, faddr, fport))
		r++;
	return r;
}
