/*
 * Reading and writing as many bytes as there are to be, however often that takes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* False, with errno set, when not all could be written. */
bool io_write_all(int fd, const void *bytes, size_t length);

/* False when there were not as many, or they could not be read. */
bool io_read_all(int fd, void *bytes, size_t length);
