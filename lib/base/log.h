/*
 * One line per event, to stderr or to TUPLEBIND_LOG_FILE.
 *
 * The preloaded program owns its descriptors: before every write the log looks
 * whether its descriptor still is the file it was at start, and stays silent when it
 * is not (a daemon that closed stderr may have a connection there now). A write
 * never blocks, whatever is at the other end, and never raises SIGPIPE, SIGXFSZ or SIGTTOU: what
 * has no room is lost. Async-signal-safe, but for log_open().
 */
#pragma once

#include "base/text.h"

#include <stdbool.h>

enum log_level { LOG_OFF, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/*
 * Starts the log at @level. @file NULL means stderr. Returns 0, or -errno when the
 * file cannot be opened for appending; the log goes to stderr then. -ELOOP: it is a link in a
 * directory in which others may have put it, root's log or a directory like /tmp.
 */
int log_open(enum log_level level, const char *file);

/*
 * Opens a file for appending as the log does, made if it is not there and @make is set. Returns the
 * descriptor or -errno.
 */
int log_open_file(const char *file, bool make);

/* What -ELOOP means, for people. */
#define LOG_NO_LINKS                                                                               \
	"it is a link in a directory where others may have put it; name the file itself"

/* Set by log_open(). */
extern enum log_level log_level;

static inline bool log_wants(enum log_level level)
{
	return level <= log_level && level != LOG_OFF;
}

/* Writes "tuplebind[PID] LEVEL: MESSAGE\n" when @level is wanted. Keeps errno. */
void log_text(enum log_level level, const struct text *message);
void log_line(enum log_level level, const char *message);
