/*
 * tuplebind doctor: looks at this host, and at a program if one is named, and says what limits
 * them.
 */
#include "tools/doctor/parts.h"

#include "tools/common/colours.h"
#include "tools/common/command.h"
#include "tools/common/options.h"
#include "tools/subcommands.h"

#include "base/log.h"
#include "kernel/sysctl.h"
#include "version.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_TO_MEND 1

static const struct option_row rows[] = {
	OPTION_SWITCH(struct doctor, json, "json", "one JSON object, for programs"),
	OPTION_END,
};

static const struct options options = {
	.subcommand = "doctor",
	.usage = "usage: tuplebind doctor [OPTION...] [--] [PROGRAM [ARGUMENT...]]\n"
		 "\n"
		 "Looks at this host with the settings in force, and at PROGRAM (which is not\n"
		 "started), and says what limits the connections they can make: ports, limits,\n"
		 "sysctls, the kernel, the tables, the pool, how PROGRAM is built. Of each it\n"
		 "tells the figure, why it matters and the command that mends it. It changes\n"
		 "nothing itself.\n"
		 "\n",
	.notes = "  -c, --addrs, ...  the options of tuplebind run; see tuplebind run --help\n"
		 "\n"
		 "  ok    as it should be\n"
		 "  note  may limit some\n"
		 "  mend  limits, or keeps tuplebind from working\n"
		 "\n"
		 "Exit status: 0 nothing needs mending, 1 something does, 125 doctor failed.\n",
	.column = 20,
	.words = OPTIONS_PROGRAM,
	.groups = {{rows, 0}, SETTINGS_UNLISTED(struct doctor)},
};

/* Takes the settings; what is not accepted is a finding, and the defaults are looked at instead. */
static int take_settings(struct doctor *d)
{
	char *why = NULL;
	struct fault fault;

	if (settings_take(&d->settings, &d->config, &why) < 0) {
		doctor_tell(d, LEVEL_MEND, "settings",
			"tuplebind run refuses this, and a program with such variables runs "
			"without tuplebind; the rest was looked at with the defaults",
			NULL, "%s", why != NULL ? why : strerror(ENOMEM));
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

static void begin(struct doctor *d)
{
	if (!d->json) {
		colours_start();
		return;
	}
	d->out.to = stdout;
	json_open(&d->out, NULL, '{');
	json_text(&d->out, "version", TUPLEBIND_VERSION);
	json_open(&d->out, "findings", '[');
}

static void end(struct doctor *d)
{
	unsigned mend = d->counts[LEVEL_MEND], notes = d->counts[LEVEL_NOTE];

	if (d->json) {
		json_close(&d->out, ']');
		json_number(&d->out, "mend", mend);
		json_number(&d->out, "notes", notes);
		json_number(&d->out, "ok", d->counts[LEVEL_OK]);
		json_close(&d->out, '}');
		putchar('\n');
	} else if (mend == 0) {
		printf("nothing to mend, %u note%s\n", notes, notes == 1 ? "" : "s");
	} else {
		printf("%u to mend, %u note%s\n", mend, notes, notes == 1 ? "" : "s");
	}
}

int doctor_main(int argc, char **argv)
{
	static struct doctor d;
	int error;

	settings_start(&d.settings, "doctor");
	if (!options_read(&options, &d, argc, argv, &error))
		return error;
	if (optind < argc)
		d.program = argv[optind];
	log_open(LOG_OFF, NULL);
	begin(&d);
	if ((error = take_settings(&d)) != 0)
		return error;
	doctor_settings(&d);
	doctor_kernel(&d);
	doctor_host(&d);
	doctor_tables(&d);
	doctor_pool(&d);
	doctor_program(&d);
	end(&d);
	plan_free(&d.plan);
	if ((error = command_flush("doctor")) != 0)
		return error;
	return d.counts[LEVEL_MEND] != 0 ? EXIT_TO_MEND : EXIT_SUCCESS;
}
