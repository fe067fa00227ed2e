/*
 * Other users' files, each handled in a process of its own.
 *
 * What another user has made may be anything: cut short while it is mapped (SIGBUS), of any size,
 * slow to read. The child has the rights of the file's owner, so that it can do no more than he
 * could; little memory and time; and ends alone. Its real user stays the caller, so that the owner
 * cannot stop it or send it signals.
 */
#pragma once

#include "base/parse.h"

#include <sys/stat.h>
#include <sys/types.h>

#define APART_SECONDS 20

/*
 * As fork(2): 0 in the child, which has the effective user and group of the owner of *st; in the
 * parent its id, or -errno with the fault told. The child ends by exit(3).
 */
pid_t apart_fork(const struct stat *st, struct fault *f);

/*
 * Does @work in such a child. Returns its status (EXIT_TUPLEBIND when its text could not be
 * written), or -errno with the fault told why it has none.
 */
typedef int apart_work(void *context);
int apart_run(const struct stat *st, apart_work *work, void *context, struct fault *f);

/* Waits for the child: its exit status, or -ECHILD with the fault told why it has none. */
int apart_wait(pid_t child, struct fault *f);
