#include "tools/lease/slices.h"

#include "choose/plan.h"
#include "kernel/sysctl.h"

#include <bsd/string.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ITEM_MAX 2048 /* as long as the plan takes a rule */

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

static int check_rules(const char *rules, struct fault *f)
{
	char item[ITEM_MAX], *ports;

	while (parse_next(&rules, ';', item, sizeof item) != 0)
		if ((ports = ports_of(item)) != NULL && strchr(ports, '/') != NULL)
			return fault_set(f,
				"TUPLEBIND_RULES: in \"%.80s\": the part of the ports comes from "
				"the "
				"lease; name the ports without one",
				item);
	/* What else may be wrong with them plan_make() tells. */
	return 0;
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
	return check_rules(s->rules, f);
}

void slices_free(struct slices *s)
{
	free(s->ports);
	free(s->rules);
}

static int list_fits(const char *list, unsigned count, struct fault *f)
{
	char text[ITEM_MAX + 16];
	struct ports unused;

	for (unsigned part = 1; part <= count; part++) {
		snprintf(text, sizeof text, "%s/%u:%u", list, count, part);
		if (ports_parse(text, &unused, f) < 0)
			return fault_set(f,
				"\"%.80s\" has no port for part %u of %u; name more ports, or "
				"fewer "
				"parts",
				list, part, count);
	}
	return 0;
}

int slices_fit(const struct slices *s, unsigned count, struct fault *f)
{
	const char *rules = s->rules;
	char item[ITEM_MAX], *ports;
	int error = list_fits(s->ports, count, f);

	while (error == 0 && parse_next(&rules, ';', item, sizeof item) != 0)
		if ((ports = ports_of(item)) != NULL)
			error = list_fits(ports, count, f);
	return error;
}

/* The rules with the part behind the ports of each that names some; the caller frees. */
static char *rules_with(const struct slices *s, const char *part)
{
	const char *rules = s->rules;
	char item[ITEM_MAX], *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (out == NULL)
		return NULL;
	while (parse_next(&rules, ';', item, sizeof item) != 0)
		fprintf(out, "%s%s;", item, ports_of(item) ? part : "");
	if (fclose(out) != 0) {
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
	rules = rules_with(s, suffix);
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
