/*
 * How the programs of tools/ speak to their user, and end.
 *
 * Exit codes: 125 when tuplebind itself failed, 126 when a program cannot be run, 127 when it was
 * not found, as env(1) and nohup(1) have it.
 */
#pragma once

#include "table/table.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <uthash.h>

#define EXIT_TUPLEBIND	125
#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND	127

/* "tuplebind: " and a message on stderr, one line. Returns EXIT_TUPLEBIND. */
int command_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Writes a text that must not break the line it is in: control characters as question marks. */
void command_put(FILE *to, const char *text);

bool command_is_utf8(const char *text);

/* Says that an option is wrong and where help is. Returns EXIT_TUPLEBIND. */
int command_usage(const char *subcommand, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Makes a "--help" text from a subcommand's one: prints it to stdout, returns 0. */
int command_help(const char *text);

/* Writes what stdout has still to write. 0, or EXIT_TUPLEBIND with the reason told. */
int command_flush(const char *subcommand);

/*
 * Lists the table files of all users, as scandir(3) does; the caller frees. Returns their
 * number, or -errno with the reason told in the name of @subcommand.
 */
int command_tables(const char *subcommand, struct dirent ***files);

/* The same without a word. */
int command_scan_tables(struct dirent ***files);

/*
 * The name of a table by its file: TUPLEBIND_TABLE, or for a default table user and namespace;
 * behind it its place if it is not the first (table/place.h).
 */
#define COMMAND_TABLE_NAME (TABLE_NAME_MAX + 3)
void command_table_name(const char *file, char name[static COMMAND_TABLE_NAME]);

/* The file's whole path, and whether it is another user's. False: it is not there any more. */
#define COMMAND_TABLE_PATH (sizeof TABLE_DIRECTORY + 256)
bool command_table_file(
	const char *file, char path[static COMMAND_TABLE_PATH], struct stat *st, bool *others);
