/*
 * The files of programs, as tuplebind run looks at them before it starts one.
 *
 * The input is one file and, behind the first "\n--\n", another one: a script and its interpreter,
 * or an ELF file alone. Any path names the second one.
 */
#include "fuzz.h"

#include "tools/common/program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST "/first"

static int files[2];

static int file_of(const char *path)
{
	return files[strcmp(path, FIRST) != 0];
}

int __wrap_open64(const char *path, int flags, ...);

int __wrap_open64(const char *path, int flags, ...)
{
	fuzz_check((flags & (O_ACCMODE | O_NONBLOCK)) == (O_RDONLY | O_NONBLOCK));
	return dup(file_of(path));
}

int __wrap_stat64(const char *path, struct stat64 *st);

int __wrap_stat64(const char *path, struct stat64 *st)
{
	fuzz_check(strlen(path) < PATH_MAX);
	return fstat64(file_of(path), st);
}

int __wrap_eaccess(const char *path, int mode);

int __wrap_eaccess(const char *path, int mode)
{
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char between[] = "\n--\n";
	static struct program p;
	const uint8_t *cut = size > 0 ? memmem(data, size, between, strlen(between)) : NULL;
	size_t first = cut != NULL ? (size_t)(cut - data) : size;
	size_t second = cut != NULL ? size - first - strlen(between) : 0;

	if (files[0] == 0) {
		files[0] = fuzz_file();
		files[1] = fuzz_file();
	}
	fuzz_file_set(files[0], data, first);
	fuzz_file_set(files[1], cut != NULL ? cut + strlen(between) : data, second);
	program_examine(&p, FIRST);
	fuzz_check(strlen(p.file) < sizeof p.file);
	fuzz_check((p.why == NULL) == (p.service == PROGRAM_SERVED));
	fuzz_check((p.remedy == NULL) == (p.service == PROGRAM_SERVED));
	return 0;
}
