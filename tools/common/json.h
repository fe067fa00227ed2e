/*
 * Writing JSON for programs to read.
 */
#pragma once

#include <stdio.h>

/* A string with its quotes. Of a text that is not UTF-8 the bytes that are not ASCII become ?. */
void json_put(FILE *to, const char *text);
