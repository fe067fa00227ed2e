/*
 * How the programs of tools/ speak to their user, and end.
 *
 * Exit codes: 125 when tuplebind itself failed, 126 when a program cannot be run, 127 when it was
 * not found, as env(1) and nohup(1) have it.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#define EXIT_TUPLEBIND	125
#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND	127

/* "tuplebind: " and a message on stderr, one line. Returns EXIT_TUPLEBIND. */
int command_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Writes a text that must not break the line it is in: control characters as question marks. */
void command_put(FILE *to, const char *text);

/* Writes such a line to stdout. */
void command_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

bool command_is_utf8(const char *text);

/* Says that an option is wrong and where help is. Returns EXIT_TUPLEBIND. */
int command_usage(const char *subcommand, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Makes a "--help" text from a subcommand's one: prints it to stdout, returns 0. */
int command_help(const char *text);

/* Writes what stdout has still to write. 0, or EXIT_TUPLEBIND with the reason told. */
int command_flush(const char *subcommand);
