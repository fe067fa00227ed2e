#include "tools/config/setting.h"

#include "choose/plan.h"

#include <stdio.h>
#include <string.h>

const struct setting_kind setting_kinds[SETTINGS] = {
	{SETTING_LIST, "auto"},
	{SETTING_LIST, "auto"},
	{SETTING_LIST, "tcp"},
	{SETTING_TEXT, "rotate"},
	{SETTING_RULES, "none"},
	{SETTING_LIST, "none"},
	{SETTING_TEXT, "fail"},
	{SETTING_TEXT, "kernel"},
	{SETTING_TEXT, "auto"},
	{SETTING_TEXT, "one for each user and network namespace"},
	{SETTING_TEXT, "8M"},
	{SETTING_TEXT, "warn"},
	{SETTING_TEXT, "stderr"},
	{SETTING_SWITCH, "unset"},
	{SETTING_SWITCH, "unset"},
};

static int take(const struct options *o, const struct option_row *row, void *to, const char *value)
{
	struct setting *settings = to;

	settings[row - setting_rows] =
		(struct setting){value != NULL ? value : "1", SETTING_OPTION, 0};
	return 0;
}

const struct option_row setting_rows[SETTINGS + 1] = {
	{"addrs", "LIST", "10.0.0.5, 10.0.0.5-10.0.0.54, 10.0.0.0/28, eth0, or auto", take},
	{"ports", "LIST", "20000-40000,50000-60000 or auto; /8:3: third of eight parts", take},
	{"protocols", "LIST", "tcp, udp, or tcp,udp", take},
	{"balance", "HOW", "rotate, random, hash, pack", take},
	{"rules", "RULES", "DEST=ADDRS[@PORTS] or DEST=skip, separated by ;", take},
	{"skip", "LIST", "destinations left to the kernel: 10.1.0.0/16, [::1]:80, ...", take},
	{"full", "WHAT", "when no tuple is left: fail or kernel", take},
	{"unusable", "WHAT", "when no address of the pool can be used: kernel or fail", take},
	{"backend", "WHICH", "auto, late, explicit", take},
	{"table", "NAME", "the table's name, or private", take},
	{"table-size", "SIZE", "8M", take},
	{"log", "LEVEL", "off, error, warn, info, debug", take},
	{"log-file", "FILE", "instead of stderr", take},
	{"disable", NULL, "do nothing: programs run as without tuplebind", take},
	{"strict", NULL, "do not run a program if tuplebind cannot do its work", take},
	OPTION_END,
};

void setting_name(unsigned setting, char name[static SETTING_NAME_MAX])
{
	snprintf(name, SETTING_NAME_MAX, "TUPLEBIND_%s", config_names[setting]);
}

int setting_find(const char *option)
{
	for (unsigned i = 0; i < SETTINGS; i++) {
		const char *a = setting_rows[i].name, *b = option;

		while (*a != '\0' && (*a == *b || (*a == '-' && *b == '_'))) {
			a++;
			b++;
		}
		if (*a == *b)
			return (int)i;
	}
	return -1;
}

int setting_check(unsigned setting, const char *value, struct fault *f)
{
	struct config config;
	struct plan plan;
	struct fault told;

	config_start(&config);
	int error = config_set(&config, setting, value, &told);
	if (error == 0) {
		error = plan_make(&plan, &config, &told);
		plan_free(&plan);
	}
	if (error < 0) {
		const char *colon = strstr(told.text, ": "); /* "TUPLEBIND_NAME: what" */
		fault_set(f, "%s", colon != NULL ? colon + 2 : told.text);
	}
	return error;
}
