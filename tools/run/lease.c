#include "tools/run/lease.h"

#include "tools/common/command.h"
#include "tools/common/preload.h"

#include "install.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int take(const struct options *o, const struct option_row *row, void *to, const char *value)
{
	static const char *const variables[] = {"TUPLEBIND_LEASE", "TUPLEBIND_LEASE_TTL",
		"TUPLEBIND_LEASE_WAIT", "TUPLEBIND_LEASE_CA"};

	if (setenv(variables[row - lease_rows], value, 1) == 0)
		return 0;
	return command_fail("%s: %s", o->subcommand, strerror(errno));
}

const struct option_row lease_rows[] = {
	{"lease", "URL", "part of the ports from etcd://HOST[:PORT]/NAME (etcds: TLS)", take},
	{"lease-ttl", "N", "seconds until a lease that is not renewed runs out (60)", take},
	{"lease-wait", "N", "seconds to wait for a free part (0)", take},
	{"lease-ca", "FILE", "trust these certificates instead of the system's", take},
	OPTION_END,
};

bool lease_wanted(void)
{
	const char *url = getenv("TUPLEBIND_LEASE");

	return url != NULL && url[0] != '\0';
}

int lease_take_parts(struct settings *s)
{
	struct setting *ports = &s->of[setting_find("ports")];
	const char *slash = ports->value ? strchr(ports->value, '/') : NULL;

	/* With a :K it is refused, by tuplebind-lease. */
	if (slash == NULL || strchr(slash, ':') != NULL)
		return unsetenv("TUPLEBIND_LEASE_PARTS");
	char *list = strndup(ports->value, (size_t)(slash - ports->value));
	if (list == NULL || setenv("TUPLEBIND_LEASE_PARTS", slash + 1, 1) < 0) {
		int error = command_fail("run: %s", strerror(errno));

		free(list);
		return error;
	}
	ports->value = list;
	ports->origin = SETTING_OPTION;
	return 0;
}

int lease_become(char **program)
{
	char library[PATH_MAX], self[PATH_MAX];
	size_t count = 0;

	/* Its connections to etcd are not the program's. */
	int error = preload_find("run", library);
	if (error == 0)
		error = preload_set("run", library, false);
	if (error != 0)
		return error;
	if (realpath("/proc/self/exe", self) == NULL)
		return command_fail("run: /proc/self/exe: %s", strerror(errno));
	while (program[count] != NULL)
		count++;
	char **argv = calloc(count + 3, sizeof *argv);
	if (argv == NULL)
		return command_fail("run: %s", strerror(errno));
	argv[1] = self;
	memcpy(argv + 2, program, count * sizeof *argv);
	error = preload_become("run", "tuplebind-lease", INSTALLED_LEASE,
		" (built where libcurl and jansson are)", argv);
	free(argv);
	return error;
}
