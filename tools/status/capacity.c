#include "tools/status/capacity.h"

#include "tools/common/proc.h"

#include "choose/ports.h"
#include "kernel/sysctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longer environments are not looked through to their end. */
#define ENVIRONMENT_MAX (1 << 20)

const char *capacity_source_text(enum capacity_source source)
{
	static const char *const texts[] = {
		[CAPACITY_UNKNOWN] = "unknown",
		[CAPACITY_KERNEL] = "kernel",
		[CAPACITY_PROCESSES] = "processes",
		[CAPACITY_GIVEN] = "option",
	};

	return texts[source];
}

int capacity_base_read(struct capacity_base *base, const char *given, struct fault *f)
{
	struct portset range;
	struct ports ports;

	*base = (struct capacity_base){.given = given != NULL};
	sysctl_ports(&range, &base->kernel);
	if (given == NULL)
		return 0;
	int error = ports_parse(given, &ports, f);
	if (error == 0)
		ports_resolve(&ports, &base->kernel, &base->ports);
	return error;
}

/* TUPLEBIND_PORTS of a process: 1 with *value to be freed, 0 without it, -1 not to be known. */
static int ports_of(pid_t pid, char **value)
{
	static const char variable[] = "TUPLEBIND_PORTS=";
	char *item = NULL;
	size_t size = 0, total = 0;
	ssize_t length;
	int found = 0;

	FILE *file = proc_open(pid, "environ");
	if (file == NULL)
		return -1;
	while (total < ENVIRONMENT_MAX && (length = getdelim(&item, &size, '\0', file)) > 0) {
		total += (size_t)length;
		if (strncmp(item, variable, sizeof variable - 1) == 0) {
			found = item[sizeof variable - 1] != '\0';
			break;
		}
		if (strchr(item, '=') == NULL) {
			found = -1;
			break;
		}
	}
	fclose(file);
	if (found == 1)
		*value = strdup(item + sizeof variable - 1);
	free(item);
	if (total == 0 || (found == 1 && *value == NULL))
		return -1;
	return found;
}

void capacity_add_process(
	struct capacity *c, const struct capacity_base *base, bool here, pid_t pid)
{
	struct ports ports;
	struct portset wanted;
	struct fault fault;
	char *value = NULL;

	if (base->given)
		return;
	int found = ports_of(pid, &value);
	if (found == 0 && here) {
		portset_add(&c->ports, &base->kernel);
	} else if (found == 1 && ports_parse(value, &ports, &fault) == 0 &&
		   (here || !ports.automatic)) {
		ports_resolve(&ports, &base->kernel, &wanted);
		portset_add(&c->ports, &wanted);
		c->source = CAPACITY_PROCESSES;
	}
	free(value);
}

void capacity_end(struct capacity *c, const struct capacity_base *base, bool here)
{
	if (base->given) {
		c->source = CAPACITY_GIVEN;
		c->ports = base->ports;
	} else if (c->source == CAPACITY_UNKNOWN && here) {
		c->source = CAPACITY_KERNEL;
		c->ports = base->kernel;
	}
	c->count = portset_count(&c->ports);
}
