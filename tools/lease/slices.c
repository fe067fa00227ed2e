#include "tools/lease/slices.h"

#include "choose/plan.h"
#include "kernel/sysctl.h"

#include <bsd/string.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(struct fault *f)
{
	fault_set(f, "out of memory");
	return -ENOMEM;
}

/* A rule's own ports, behind its @; NULL: it has none. */
static char *ports_of(char *rule)
{
	char *equals = strchr(rule, '='), *at = equals ? strchr(equals, '@') : NULL;

	return at ? at + 1 : NULL;
}

/* Called with each rule; *context is its own. Returns 0, or a negative errno that ends it. */
typedef int rule_visit(char *rule, void *context, struct fault *f);

/* Visits the rules one after the other, as long as they are. */
static int each_rule(const char *rules, rule_visit *visit, void *context, struct fault *f)
{
	size_t size = strlen(rules) + 1;
	char *rule = malloc(size);
	int error = rule == NULL ? out_of_memory(f) : 0;

	while (error == 0 && parse_next(&rules, ';', rule, size) != 0)
		error = visit(rule, context, f);
	free(rule);
	return error;
}

static int check_rule(char *rule, void *unused, struct fault *f)
{
	const char *ports = ports_of(rule);

	/* What else may be wrong with it plan_make() tells. */
	if (ports == NULL || strchr(ports, '/') == NULL)
		return 0;
	return fault_set(f,
		"TUPLEBIND_RULES: in \"%.80s\": the part of the ports comes from the lease; name "
		"the ports without one",
		rule);
}

int slices_read(struct slices *s, struct fault *f)
{
	const char *ports = getenv("TUPLEBIND_PORTS"), *rules = getenv("TUPLEBIND_RULES");
	const char *parts = getenv("TUPLEBIND_LEASE_PARTS");
	uint64_t count = 0;

	*s = (struct slices){
		.ports = strdup(ports && ports[0] ? ports : "auto"),
		.rules = strdup(rules ? rules : ""),
	};
	if (s->ports == NULL || s->rules == NULL)
		return out_of_memory(f);
	if (strchr(s->ports, '/') != NULL)
		return fault_set(f,
			"TUPLEBIND_PORTS: \"%.80s\": the part comes from the lease; name LIST/N "
			"without "
			":K, or do without a lease",
			s->ports);
	if (parts != NULL && parse_number(parts, 1, PORTS_PARTS_MAX, &count) < 0)
		return fault_set(f,
			"TUPLEBIND_PORTS: \"%.80s/%.40s\": \"%.40s\" is not a number of parts from "
			"1 to "
			"%d",
			s->ports, parts, parts, PORTS_PARTS_MAX);
	s->count = (unsigned)count;
	return each_rule(s->rules, check_rule, NULL, f);
}

void slices_free(struct slices *s)
{
	free(s->ports);
	free(s->rules);
}

static int list_fits(const char *list, unsigned count, struct fault *f)
{
	struct ports unused;
	int error = 0;

	for (unsigned part = 1; part <= count && error == 0; part++) {
		char *text;

		if (asprintf(&text, "%s/%u:%u", list, count, part) < 0)
			return out_of_memory(f);
		error = ports_parse(text, &unused, f);
		free(text);
		if (error < 0)
			fault_set(f,
				"\"%.80s\" has no port for part %u of %u; name more ports, or "
				"fewer parts",
				list, part, count);
	}
	return error;
}

static int rule_fits(char *rule, void *context, struct fault *f)
{
	const unsigned *count = context;
	const char *ports = ports_of(rule);

	return ports != NULL ? list_fits(ports, *count, f) : 0;
}

int slices_fit(const struct slices *s, unsigned count, struct fault *f)
{
	int error = list_fits(s->ports, count, f);

	return error < 0 ? error : each_rule(s->rules, rule_fits, &count, f);
}

/* Rules as they are written anew. */
struct writing {
	FILE *to;
	const char *part;
};

static int write_rule(char *rule, void *context, struct fault *f)
{
	const struct writing *w = context;

	fprintf(w->to, "%s%s;", rule, ports_of(rule) ? w->part : "");
	return 0;
}

/* The rules with the part behind the ports of each that names some; the caller frees. */
static char *rules_with(const struct slices *s, const char *part, struct fault *f)
{
	char *text = NULL;
	size_t size;
	struct writing w = {open_memstream(&text, &size), part};

	if (w.to == NULL)
		return NULL;
	int error = each_rule(s->rules, write_rule, &w, f);
	if (fclose(w.to) != 0 || error < 0) {
		free(text);
		return NULL;
	}
	return text;
}

int slices_set(const struct slices *s, unsigned count, unsigned part, struct fault *f)
{
	char suffix[24], *rules, *ports = NULL;
	int error = -1;

	snprintf(suffix, sizeof suffix, "/%u:%u", count, part);
	rules = rules_with(s, suffix, f);
	if (rules != NULL && asprintf(&ports, "%s%s", s->ports, suffix) > 0)
		error = setenv("TUPLEBIND_PORTS", ports, 1);
	if (error == 0 && rules[0] != '\0')
		error = setenv("TUPLEBIND_RULES", rules, 1);
	free(rules);
	free(ports);
	return error == 0 ? 0 : out_of_memory(f);
}

int slices_ports(struct portset *all, struct fault *f)
{
	struct portset range, offered, some;
	struct config config;
	struct plan plan;
	int error = config_read(&config, f);

	portset_clear(all);
	if (error < 0)
		return error;
	error = plan_make(&plan, &config, f);
	sysctl_ports(&range, &offered);
	for (unsigned i = 0; error == 0 && i < plan.ports_count; i++) {
		ports_resolve(&plan.ports[i]->wanted, &offered, &some);
		portset_add(all, &some);
	}
	plan_free(&plan);
	return error;
}
