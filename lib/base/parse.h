/*
 * Reading the small grammars of the environment variables.
 *
 * Every reader takes one NUL-terminated item and says with a `struct fault` what
 * was wrong with it, in words that can stand in one line behind the variable's
 * name. Used at start only, so stdio is allowed here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Why an item was not accepted: one line, no newline, whatever is in the item. */
struct fault {
	char text[400];
};

/* Writes the fault as printf would, control characters as question marks, and returns -EINVAL. */
int fault_set(struct fault *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A decimal number within [min, max]; no sign, no blanks. Returns 0 or -EINVAL. */
int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *value);

/* Bytes, with an optional suffix K, M or G (powers of 1024). Returns 0 or -EINVAL. */
int parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *value);

/* "0" or "1" (empty counts as 0). Returns 0 or -EINVAL. */
int parse_flag(const char *text, bool *value);

/* The index of @text in @words (NULL-terminated list), or -EINVAL. */
int parse_word(const char *text, const char *const words[]);

/* What may stand around the items of a list. */
#define PARSE_BLANKS " \t\n\v\f\r"

/*
 * Takes the next item of a list off @cursor into @item, blanks around it removed.
 * @separator ends an item, except inside [brackets]. Returns 1 for an item, 0 at the
 * end of the list, -E2BIG when the item does not fit (it is cut then).
 */
int parse_next(const char **cursor, char separator, char *item, size_t size);
