/*
 * The front: the process that was started as `tuplebind run --lease`, which to its caller is the
 * program.
 *
 * It passes on to the program the signals that are sent to it alone, stops when the program stops,
 * and ends as the program ended. What the terminal sends to the process group, and what the program
 * or one of its descendants sends, the program has had already.
 */
#pragma once

#include "tools/lease/terms.h"

#include <sys/types.h>

/* Blocks the signals that the front passes on. *before: the mask that the program is to have. */
void front_block_signals(sigset_t *before);

/*
 * Serves until the program has ended. @link: to the process @keeper. Returns an exit code; does not
 * return when a signal ended the program.
 */
int front_run(const struct terms *s, int link, pid_t keeper);
