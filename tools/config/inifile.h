/*
 * An INI file, section by section and key by key, each with its line.
 *
 * libinih takes the lines apart. It reports neither lines nor sections without keys, and cuts
 * what is longer than its buffer; so the lines are handed to it one by one, and what a text
 * file cannot have in it is refused before. Whatever the file holds, the answer is a visit for
 * each thing in it, or one fault and its line.
 */
#pragma once

#include "base/parse.h"

#include <stdbool.h>

/* Larger files are none that somebody wrote. */
#define INIFILE_MAX (1 << 20)

/* Texts last as long as the visit. */
struct inifile_item {
	unsigned line;
	const char *section; /* "rule web", "" before the first section */
	const char *key;     /* NULL: the section begins here */
	const char *value;
	bool goes_on; /* a further line of the value before */
};

/* Why a file was refused, and where: line 0 is the file itself. */
struct inifile_fault {
	unsigned line;
	struct fault what;
};

/* Returns 0, or -EINVAL with the fault told; then the reading ends. */
typedef int inifile_visit(
	void *context, const struct inifile_item *item, struct inifile_fault *fault);

/* Reads @path and visits what is in it, in order. Returns 0, or a negative errno with the fault
 * told.
 */
int inifile_read(
	const char *path, inifile_visit *visit, void *context, struct inifile_fault *fault);

/* Sets the fault and returns -EINVAL. */
int inifile_refuse(struct inifile_fault *fault, unsigned line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
