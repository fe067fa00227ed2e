/*
 * Files of /proc, of a process or of the host.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define PROC_PATH_MAX 64

/* "/proc/PID/NAME" */
void proc_path(pid_t pid, const char *name, char path[static PROC_PATH_MAX]);

/* Opens /proc/PID/NAME to read. NULL with errno set: there is none, or it is not for this user. */
FILE *proc_open(pid_t pid, const char *name);

/* Reads the first number of a file. False: there is none. */
bool proc_number(const char *path, uint64_t *value);

/* Visits the processes that /proc shows. O(processes of the host). */
typedef void proc_visit(void *context, pid_t pid);
void proc_each(proc_visit *visit, void *context);
