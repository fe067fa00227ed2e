/*
 * Writing JSON for programs to read: an object or array after the other, commas where they belong.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
	FILE *to;
	bool follows; /* something stands before in what is open */
};

/* Opens and closes an object, "{" and "}", or an array. @name: NULL in an array and outside. */
void json_open(struct json *j, const char *name, char bracket);
void json_close(struct json *j, char bracket);

/* A string, or null for NULL. Of a text that is not UTF-8 the bytes that are not ASCII become ?. */
void json_text(struct json *j, const char *name, const char *value);
void json_number(struct json *j, const char *name, uint64_t value);
void json_bool(struct json *j, const char *name, bool value);
