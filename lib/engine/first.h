/*
 * The connect() of a socket that has no port: the local addresses in turn, for each all of its
 * tuples; then, where all are full, what has no holder any more is given back; and where the table
 * cannot know, the kernel searches.
 */
#pragma once

#include "engine/attempt.h"

/* 0, or the errno for the program. */
int first_connect(struct attempt *a);
