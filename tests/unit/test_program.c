/*
 * Programs as files: each kind in the smallest ELF that shows it, and then thousands of
 * broken ones. The system tests have the real ones.
 */
#include "tools/common/program.h"

#include "fixture.h"

#include <bsd/string.h>
#include <criterion/criterion.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define MUTANTS	     20000
#define SCRIPT_LINES 5000

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

/* A whole small executable, loaded from address 0. */
struct image {
	ElfW(Ehdr) head;
	ElfW(Phdr) load, interp, dynamic, note;
	ElfW(Dyn) entries[5];
	char interpreter[32];
	char strings[32];
	struct {
		ElfW(Nhdr) head;
		char name[4], id[8];
	} other_note, go_note;
	ElfW(Shdr) sections[3];
	char section_names[32];
};

#define AT(member) offsetof(struct image, member)

/* A dynamically linked program of ours that needs libc.so.6. */
static struct image usual(void)
{
	struct image i = {.head = __ehdr_start,
		.load = {.p_type = PT_LOAD, .p_filesz = sizeof i, .p_memsz = sizeof i},
		.interp = {.p_type = PT_INTERP,
			.p_offset = AT(interpreter),
			.p_filesz = sizeof i.interpreter},
		.dynamic = {.p_type = PT_DYNAMIC,
			.p_offset = AT(entries),
			.p_filesz = sizeof i.entries},
		.note = {.p_type = PT_NOTE,
			.p_offset = AT(other_note),
			.p_filesz = sizeof i.other_note + sizeof i.go_note,
			.p_align = 4},
		.entries = {{.d_tag = DT_STRTAB, .d_un.d_ptr = AT(strings)},
			{.d_tag = DT_STRSZ, .d_un.d_val = sizeof i.strings},
			{.d_tag = DT_NEEDED, .d_un.d_val = 1}, {.d_tag = DT_DEBUG},
			{.d_tag = DT_NULL}},
		.interpreter = "/lib64/ld-linux-x86-64.so.2",
		.strings = "\0libc.so.6\0liburing.so.2",
		.other_note = {.head = {4, 8, 3}, .name = "GNU", .id = "1234567"},
		.go_note = {.head = {4, 8, 3}, .name = "Go", .id = "1234567"},
		.sections = {{.sh_name = 0}, {.sh_name = 1},
			{.sh_name = 7, .sh_offset = AT(section_names)}},
		.section_names = "\0.text\0.shstrtab\0.go.buildinfo"};

	i.head.e_type = ET_DYN;
	i.head.e_phoff = AT(load);
	i.head.e_phnum = 4;
	i.head.e_shoff = AT(sections);
	i.head.e_shentsize = sizeof *i.sections;
	i.head.e_shnum = COUNT(i.sections);
	i.head.e_shstrndx = 2;
	return i;
}

/* A file in memory that is written anew for each question. */
static int file = -1;
static char path[64];

static void open_file(void)
{
	file = memfd_create("program", 0);
	cr_assert_geq(file, 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
}

static struct program examine(const void *bytes, size_t size)
{
	struct program p;

	cr_assert_eq(ftruncate(file, 0), 0);
	cr_assert_eq(pwrite(file, bytes, size, 0), (ssize_t)size);
	program_examine(&p, path);
	cr_assert_leq(p.service, PROGRAM_UNLOADABLE);
	cr_assert_eq(p.service == PROGRAM_SERVED, p.why == NULL);
	cr_assert_eq(p.service == PROGRAM_SERVED, p.remedy == NULL);
	cr_assert_lt(strnlen(p.file, sizeof p.file), sizeof p.file);
	return p;
}

static void expect(const struct image *i, enum program_service service, const char *why)
{
	struct program p = examine(i, sizeof *i);

	cr_expect_eq(p.service, service, "%d: %s, not: %s", p.service, p.why, why);
	cr_expect(why == NULL || (p.why != NULL && strstr(p.why, why) != NULL), "%s, not: %s",
		p.why, why);
}

Test(program, usual, .init = open_file)
{
	struct image i = usual();

	expect(&i, PROGRAM_SERVED, NULL);
	i.head.e_type = ET_EXEC;
	expect(&i, PROGRAM_SERVED, NULL);
	i.head.e_shnum = i.head.e_shentsize = 0;
	expect(&i, PROGRAM_SERVED, NULL);
}

Test(program, no_loader, .init = open_file)
{
	struct image i = usual();

	i.interp.p_type = PT_NULL;
	expect(&i, PROGRAM_UNSERVED, "static");
	i.head.e_type = ET_EXEC;
	expect(&i, PROGRAM_UNSERVED, "static");
	/* A loader itself, but an executable never is one. */
	i.entries[3].d_tag = DT_SONAME;
	expect(&i, PROGRAM_UNSERVED, "static");
	i.head.e_type = ET_DYN;
	expect(&i, PROGRAM_SERVED, NULL);
	/* What is behind the end of the dynamic section is not in it. */
	i.entries[2].d_tag = DT_NULL;
	expect(&i, PROGRAM_UNSERVED, "static");
	i.dynamic.p_type = PT_NULL;
	expect(&i, PROGRAM_UNSERVED, "static");
}

Test(program, other_loaders, .init = open_file)
{
	static const char *const others[] = {
		"/lib/ld-musl-x86_64.so.1", "/lib/ld-uClibc.so.0", "/lib/ld64-uClibc.so.1"};
	static const char *const ours[] = {"/lib64/ld-linux-x86-64.so.2", "/lib64/ld64.so.2",
		"/lib/ld.so.1", "/ld-musl-/ld.so", "/nix/store/ld-linux.so", "x"};

	for (size_t n = 0; n < COUNT(others); n++) {
		struct image i = usual();
		strlcpy(i.interpreter, others[n], sizeof i.interpreter);
		expect(&i, PROGRAM_UNLOADABLE, "libc");
	}
	for (size_t n = 0; n < COUNT(ours); n++) {
		struct image i = usual();
		strlcpy(i.interpreter, ours[n], sizeof i.interpreter);
		expect(&i, PROGRAM_SERVED, NULL);
	}
}

Test(program, go, .init = open_file)
{
	struct image i = usual();

	i.go_note.head.n_type = 4;
	expect(&i, PROGRAM_UNSERVED, "Go");
	i.interp.p_type = PT_NULL;
	expect(&i, PROGRAM_UNSERVED, "Go");
	i = usual();
	i.note.p_align = 8;
	i.note.p_offset = AT(go_note);
	i.go_note.head.n_type = 4;
	expect(&i, PROGRAM_UNSERVED, "Go");
	i = usual();
	i.sections[1].sh_name = 17;
	expect(&i, PROGRAM_UNSERVED, "Go");
	i.section_names[30] = 'x'; /* the NUL counts */
	expect(&i, PROGRAM_SERVED, NULL);
	i = usual();
	memcpy(i.go_note.name, "Gox", 4);
	i.go_note.head.n_type = 4;
	expect(&i, PROGRAM_SERVED, NULL);
}

Test(program, liburing, .init = open_file)
{
	struct image i = usual();

	i.entries[2].d_un.d_val = 11;
	expect(&i, PROGRAM_IN_PART, "liburing");
	i.load.p_vaddr = 4096;
	i.entries[0].d_un.d_ptr += 4096;
	expect(&i, PROGRAM_IN_PART, "liburing");
	i.entries[0].d_un.d_ptr = 1;
	expect(&i, PROGRAM_SERVED, NULL);
}

Test(program, other_machines, .init = open_file)
{
	struct image i = usual();

	i.head.e_machine ^= 1;
	expect(&i, PROGRAM_UNLOADABLE, "processor");
	i = usual();
	i.head.e_ident[EI_DATA] = ELFDATA2LSB + ELFDATA2MSB - i.head.e_ident[EI_DATA];
	expect(&i, PROGRAM_UNLOADABLE, "processor");
	i = usual();
	i.head.e_ident[EI_CLASS] = ELFCLASS32 + ELFCLASS64 - i.head.e_ident[EI_CLASS];
	expect(&i, PROGRAM_UNLOADABLE, "-bit program");
}

/* What the kernel does not start is left to it. */
Test(program, not_programs, .init = open_file)
{
	struct image i = usual();

	i.interp.p_type = PT_NULL;
	for (unsigned type = 0; type < 6; type++) {
		i.head.e_type = (ElfW(Half))type;
		expect(&i, type == ET_EXEC || type == ET_DYN ? PROGRAM_UNSERVED : PROGRAM_SERVED,
			NULL);
	}
	i.head.e_type = ET_DYN;
	static const unsigned counts[] = {0, 1000, 1171, 65535};
	for (size_t n = 0; n < COUNT(counts); n++) {
		i.head.e_phnum = (ElfW(Half))counts[n];
		expect(&i, PROGRAM_SERVED, NULL);
	}
	i.head.e_phnum = 4;
	i.head.e_phentsize++;
	expect(&i, PROGRAM_SERVED, NULL);
	i.head.e_phentsize--;
	i.head.e_phoff = (ElfW(Off))INT64_MAX - 3;
	expect(&i, PROGRAM_SERVED, NULL);
	i.head.e_phoff = (ElfW(Off)) - 64;
	expect(&i, PROGRAM_SERVED, NULL);
}

static const struct image *kinds(size_t *count)
{
	static struct image all[4];

	for (size_t n = 0; n < COUNT(all); n++)
		all[n] = usual();
	all[1].interp.p_type = PT_NULL;
	all[2].go_note.head.n_type = 4;
	all[3].entries[2].d_un.d_val = 11;
	*count = COUNT(all);
	return all;
}

Test(program, cut_anywhere, .init = open_file)
{
	size_t count;
	const struct image *all = kinds(&count);

	for (size_t n = 0; n < count; n++)
		for (size_t size = 0; size < sizeof *all; size++)
			examine(&all[n], size);
}

/* Some bytes are random, or such as break sums: all bits set, the highest only, none. */
Test(program, mutants, .init = open_file)
{
	static const uint64_t awkward[] = {0, 1, UINT64_MAX, INT64_MAX, UINT64_C(1) << 63,
		UINT32_MAX, UINT64_C(1) << 31, 65535};
	uint64_t seed = 20250101;
	size_t count, services[PROGRAM_UNLOADABLE + 1] = {0};
	const struct image *all = kinds(&count);

	for (unsigned m = 0; m < MUTANTS; m++) {
		struct image i = all[m % count];
		unsigned changes = 1 + fixture_random(&seed) % 4;

		while (changes-- > 0) {
			uint64_t value = fixture_random(&seed) % 2
						 ? fixture_random(&seed)
						 : awkward[fixture_random(&seed) % COUNT(awkward)];
			size_t size = (size_t)1 << fixture_random(&seed) % 4;
			/* Fields are aligned; the magic stays. */
			size_t at = SELFMAG + fixture_random(&seed) % (sizeof i - SELFMAG);
			at -= at % size;
			if (at >= SELFMAG)
				memcpy((char *)&i + at, &value, size);
		}
		services[examine(&i, sizeof i).service]++;
	}
	for (size_t n = 0; n < COUNT(services); n++)
		cr_expect_gt(services[n], 0, "no mutant of kind %zu", n);
}

Test(program, tables_without_end, .init = open_file)
{
	static struct image i;
	static char huge[1 << 20];

	/* Program headers, sections, notes and a dynamic section as long as can be, all over the
	 * file. */
	for (unsigned fill = 0; fill < 256; fill++) {
		memset(huge, (int)fill, sizeof huge);
		i = usual();
		i.head.e_shnum = 65535;
		i.note.p_filesz = i.dynamic.p_filesz = UINT32_MAX;
		i.note.p_offset = i.dynamic.p_offset = i.head.e_shoff = sizeof i;
		memcpy(huge, &i, sizeof i);
		examine(huge, sizeof huge);
		i.head.e_phoff = sizeof i;
		i.head.e_phnum = 1170;
		memcpy(huge, &i, sizeof i);
		examine(huge, sizeof huge);
	}
}

static void expect_script(const char *line, const char *interpreter)
{
	struct program p = examine(line, strlen(line));

	cr_expect_str_eq(p.file, interpreter ? interpreter : path, "%s", line);
}

Test(program, scripts, .init = open_file)
{
	setenv("PATH", "/nowhere:/bin", 1);
	expect_script("#!/bin/sh\n", "/bin/sh");
	expect_script("#!/bin/sh", "/bin/sh");
	expect_script("#!  /bin/sh -e -u\necho\n", "/bin/sh");
	expect_script("#!/nowhere/sh\n", "/nowhere/sh");
	expect_script("#!sh\n", "sh");
	expect_script("#!/usr/bin/env sh\n", "/bin/sh");
	expect_script("#!/usr/bin/env -S A=b sh -e\n", "/bin/sh");
	expect_script("#!env sh\n", "/bin/sh");
	expect_script("#!", NULL);
	expect_script("#!\n/bin/sh", NULL);
	expect_script("#! \t \n", NULL);
	expect_script(" #!/bin/sh\n", NULL);
	expect_script("", NULL);
	expect_script("#!/usr/bin/env\n", NULL);
	expect_script("#!/usr/bin/env -S\n", NULL);
	expect_script("#!/usr/bin/env -S 'sh'\n", NULL);
	expect_script("#!/usr/bin/env -i sh\n", NULL);
	expect_script("#!/usr/bin/env -u PATH sh\n", NULL);
	expect_script("#!/usr/bin/env A=b\n", NULL);

	/* The kernel reads 256 bytes. */
	char line[300];
	for (int blanks = 240; blanks < 260; blanks++) {
		snprintf(line, sizeof line, "#!%*s/bin/sh\n", blanks, "");
		expect_script(line, blanks + 9 < 256 ? "/bin/sh" : NULL);
	}
}

/* Scripts of themselves, by way of the kernel or of env. */
Test(program, endless_scripts, .init = open_file)
{
	char line[128];

	snprintf(line, sizeof line, "#!%s\n", path);
	expect_script(line, NULL);
	snprintf(line, sizeof line, "#!env %s\n", path);
	expect_script(line, NULL);
}

Test(program, random_scripts, .init = open_file)
{
	static const char *const pieces[] = {"#!", "/bin/sh", "/usr/bin/env", " ", "\t", "\n", "-S",
		"env", "=", "-", "'", "\\", "\xff", "/", "sh",
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"};
	uint64_t seed = 20250102;

	for (unsigned m = 0; m < SCRIPT_LINES; m++) {
		char line[1024] = "#!";
		unsigned count = fixture_random(&seed) % 24;

		if (m % 2)
			strcat(line, "/usr/bin/env ");
		while (count-- > 0)
			strcat(line, pieces[fixture_random(&seed) % COUNT(pieces)]);
		examine(line, strlen(line) + m % 3);
	}
}

Test(program, found, .init = open_file)
{
	char found[PATH_MAX], long_name[2 * PATH_MAX];

	memset(long_name, 'x', sizeof long_name - 1);
	long_name[sizeof long_name - 1] = '\0';
	setenv("PATH", "/bin", 1);
	cr_expect(program_find("sh", found));
	cr_expect_str_eq(found, "/bin/sh");
	cr_expect(program_find("/bin/../bin/sh", found));
	cr_expect_str_eq(found, "/bin/../bin/sh");
	cr_expect_not(program_find("nowhere", found));
	cr_expect_not(program_find("", found));
	cr_expect_not(program_find(long_name, found));
	long_name[0] = '/';
	cr_expect_not(program_find(long_name, found));
	setenv("PATH", long_name, 1);
	cr_expect_not(program_find("sh", found));
	setenv("PATH", "", 1);
	cr_assert_eq(chdir("/bin"), 0);
	cr_expect(program_find("sh", found));
	cr_expect_str_eq(found, "./sh");
	setenv("PATH", ":::/nowhere", 1);
	cr_expect(program_find("sh", found));
	unsetenv("PATH");
	cr_expect(program_find("sh", found));
}
