#include "tools/config/setting.h"

#include "choose/plan.h"

#include <stdio.h>
#include <string.h>

const struct setting_kind setting_kinds[SETTINGS] = {
	{"addrs", SETTING_LIST, "auto"},
	{"ports", SETTING_LIST, "auto"},
	{"protocols", SETTING_LIST, "tcp"},
	{"balance", SETTING_TEXT, "rotate"},
	{"rules", SETTING_RULES, "none"},
	{"skip", SETTING_LIST, "none"},
	{"full", SETTING_TEXT, "fail"},
	{"unusable", SETTING_TEXT, "kernel"},
	{"backend", SETTING_TEXT, "auto"},
	{"table", SETTING_TEXT, "one for each user and network namespace"},
	{"table-size", SETTING_TEXT, "8M"},
	{"log", SETTING_TEXT, "warn"},
	{"log-file", SETTING_TEXT, "stderr"},
	{"disable", SETTING_SWITCH, "unset"},
	{"strict", SETTING_SWITCH, "unset"},
};

void setting_name(unsigned setting, char name[static SETTING_NAME_MAX])
{
	snprintf(name, SETTING_NAME_MAX, "TUPLEBIND_%s", config_names[setting]);
}

int setting_find(const char *option)
{
	for (unsigned i = 0; i < SETTINGS; i++) {
		const char *a = setting_kinds[i].option, *b = option;

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
