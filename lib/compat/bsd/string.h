/* For a libc that has strlcpy() and strlcat() itself, without libbsd: musl. */
#pragma once

#include <string.h>
