/*
 * tuplebind doctor: looks at this host, and at a program if one is named, and says what limits
 * them.
 */
#include "tools/doctor/parts.h"

#include "tools/common/colours.h"
#include "tools/common/command.h"
#include "tools/subcommands.h"

#include "base/log.h"
#include "kernel/sysctl.h"
#include "version.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_TO_MEND 1

static const char help[] =
	"usage: tuplebind doctor [OPTION...] [--] [PROGRAM [ARGUMENT...]]\n"
	"\n"
	"Looks at this host with the settings in force, and at PROGRAM (which is not\n"
	"started), and says what limits the connections they can make: ports, limits,\n"
	"sysctls, the kernel, the tables, the pool, how PROGRAM is built. Of each it\n"
	"tells the figure, why it matters and the command that mends it. It changes\n"
	"nothing itself.\n"
	"\n"
	"  --json            one JSON object, for programs\n"
	"  -c, --addrs, ...  the options of tuplebind run; see tuplebind run --help\n"
	"\n"
	"  ok    as it should be\n"
	"  note  may limit some\n"
	"  mend  limits, or keeps tuplebind from working\n"
	"\n"
	"Exit status: 0 nothing needs mending, 1 something does, 125 doctor failed.\n";

/* Takes the settings; what is not accepted is a finding, and the defaults are looked at instead. */
static int take_settings(struct doctor *d)
{
	char *why = NULL;
	struct fault fault;

	if (settings_take(&d->settings, &d->config, &why) < 0) {
		doctor_tell(d, LEVEL_MEND, "settings", why != NULL ? why : strerror(ENOMEM),
			"tuplebind run refuses this, and a program with such variables runs "
			"without tuplebind; the rest was looked at with the defaults",
			NULL);
		free(why);
		config_start(&d->config);
	}
	/* Texts of a disabled configuration have not been checked. */
	if (plan_make(&d->plan, &d->config, &fault) < 0) {
		plan_free(&d->plan);
		config_start(&d->config);
		d->config.disabled = true;
		if (plan_make(&d->plan, &d->config, &fault) < 0)
			return command_fail("doctor: %s", fault.text);
	}
	sysctl_ports(&d->range, &d->offered);
	ports_resolve(&plan_general_rule(&d->plan)->ports->wanted, &d->offered, &d->ports);
	return 0;
}

static void print_sum(const struct doctor *d)
{
	unsigned mend = d->counts[LEVEL_MEND], notes = d->counts[LEVEL_NOTE];

	if (d->json)
		printf("],\"mend\":%u,\"notes\":%u,\"ok\":%u}\n", mend, notes, d->counts[LEVEL_OK]);
	else if (mend == 0)
		printf("nothing to mend, %u note%s\n", notes, notes == 1 ? "" : "s");
	else
		printf("%u to mend, %u note%s\n", mend, notes, notes == 1 ? "" : "s");
}

int doctor_main(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	static struct doctor d;
	int option, error;

	settings_start(&d.settings, "doctor");
	while ((option = settings_getopt(&d.settings, argc, argv, options)) != -1) {
		switch (option) {
		case 'j':
			d.json = true;
			break;
		case 'h':
			return command_help(help);
		default:
			return EXIT_TUPLEBIND;
		}
	}
	if (optind < argc)
		d.program = argv[optind];
	if (!d.json)
		colours_start();
	log_open(LOG_OFF, NULL);
	if (d.json)
		printf("{\"version\":\"%s\",\"findings\":[", TUPLEBIND_VERSION);
	if ((error = take_settings(&d)) != 0)
		return error;
	doctor_settings(&d);
	doctor_kernel(&d);
	doctor_host(&d);
	doctor_tables(&d);
	doctor_pool(&d);
	doctor_program(&d);
	print_sum(&d);
	plan_free(&d.plan);
	if (fflush(stdout) != 0)
		return command_fail("doctor: %s", strerror(errno));
	return d.counts[LEVEL_MEND] != 0 ? EXIT_TO_MEND : EXIT_SUCCESS;
}
