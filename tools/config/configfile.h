/*
 * The configuration file: an INI file whose keys are the settings' options.
 *
 *     [tuplebind]             at most once; any key is optional
 *     addrs = 10.0.0.5-10.0.0.54
 *     strict = yes
 *
 *     [rule web]              any number, in order: the first whose dest matches decides
 *     dest = 10.1.0.0/16:443, [2001:db8::/32]:443
 *     addrs = 10.0.0.7
 *     ports = 20000-29999     optional
 *
 *     [rule inside]
 *     dest = 10.0.0.0/8
 *     skip = yes
 *
 * Nothing in it is passed over: what is not known, given twice or not accepted is a fault with its
 * line. Values are checked by the readers of the library.
 */
#pragma once

#include "tools/config/inifile.h"
#include "tools/config/setting.h"

/* What a file says; the texts are the caller's. */
struct configfile {
	struct setting of[SETTINGS];
	/* The lines of the rules, in the order in which TUPLEBIND_RULES has them. */
	unsigned *rule_lines, rule_count;
};

/*
 * Reads @path into @file, which is all zero at first: its settings with their lines, and the line
 * of each rule. Returns 0, or a negative errno with the fault told. May ask for the host's
 * interfaces.
 */
int configfile_read(const char *path, struct configfile *file, struct inifile_fault *fault);
