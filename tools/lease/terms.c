#include "tools/lease/terms.h"

#include "choose/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TTL_PRESET 60
#define TTL_MIN	   5
#define TTL_MAX	   86400
#define WAIT_MAX   (366 * 86400)

/* Seconds, within [min, max]. */
static int get_seconds(const char *name, unsigned min, unsigned max, unsigned preset, unsigned *out,
	struct fault *f)
{
	const char *text = getenv(name);
	uint64_t value = preset;

	if (text != NULL && text[0] != '\0' && parse_number(text, min, max, &value) < 0)
		return fault_set(f, "%s: \"%.60s\" is not a time; accepted: %u to %u seconds", name,
			text, min, max);
	*out = (unsigned)value;
	return 0;
}

static int get_url(struct lease_url *url, struct fault *f)
{
	const char *text = getenv("TUPLEBIND_LEASE");
	struct fault inner;

	if (lease_url_parse(url, text ? text : "", &inner) == 0)
		return 0;
	return fault_set(f, "TUPLEBIND_LEASE: %.360s", inner.text);
}

static int get_ca(struct terms *s, struct fault *f)
{
	const char *text = getenv("TUPLEBIND_LEASE_CA");

	if (text == NULL || text[0] == '\0')
		return 0;
	/* By its whole path: the keeper leaves the folder it was started in. */
	s->ca = realpath(text, NULL);
	if (s->ca != NULL && access(s->ca, R_OK) == 0)
		return 0;
	return fault_set(
		f, "TUPLEBIND_LEASE_CA: \"%.100s\" cannot be read: %s", text, strerror(errno));
}

/* The variables that are not the lease's, as the library will read them. */
static int check_others(struct terms *s, struct fault *f)
{
	struct plan plan;
	int error = config_read(&s->config, f);

	if (error < 0)
		return error;
	error = plan_make(&plan, &s->config, f);
	plan_free(&plan);
	return error;
}

int terms_read(struct terms *s, struct fault *f)
{
	static const char *const own[] = {"TUPLEBIND_LEASE", "TUPLEBIND_LEASE_TTL",
		"TUPLEBIND_LEASE_WAIT", "TUPLEBIND_LEASE_CA", "TUPLEBIND_LEASE_PARTS"};
	int error;

	*s = (struct terms){.ca = NULL};
	if ((error = get_url(&s->url, f)) < 0 ||
		(error = get_seconds(
			 "TUPLEBIND_LEASE_TTL", TTL_MIN, TTL_MAX, TTL_PRESET, &s->ttl, f)) < 0 ||
		(error = get_seconds("TUPLEBIND_LEASE_WAIT", 0, WAIT_MAX, 0, &s->wait, f)) < 0 ||
		(error = get_ca(s, f)) < 0 || (error = slices_read(&s->slices, f)) < 0 ||
		(error = check_others(s, f)) < 0)
		return error;
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		unsetenv(own[i]);
	return 0;
}

void terms_free(struct terms *s)
{
	slices_free(&s->slices);
	free(s->ca);
}
