#include "tools/common/program.h"

#include <bsd/string.h>
#include <endian.h>
#include <fcntl.h>
#include <link.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define FILES_MAX	8   /* scripts of scripts; the kernel follows five */
#define SCRIPT_LINE_MAX 256 /* all that the kernel reads of a "#!" line */
#define SEGMENTS_MAX	(65536 / sizeof(elf_segment)) /* as many as the kernel takes */
#define SECTIONS_MAX	1024
#define DYNAMIC_MAX	1024
#define NOTES_MAX	4096  /* bytes of a segment of notes */
#define UNMAPPED_ID	65534 /* an owner that has no number in this user namespace */

/* Of the command's own class; others are looked at no further than their first bytes. */
typedef ElfW(Ehdr) elf_head;
typedef ElfW(Phdr) elf_segment;
typedef ElfW(Shdr) elf_section;
typedef ElfW(Dyn) elf_dynamic;
typedef ElfW(Nhdr) elf_note;

/* The command's own header: the library is built with it. The name is the linker's. */
/* NOLINTNEXTLINE(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
extern const elf_head __ehdr_start __attribute__((visibility("hidden")));

struct elf {
	int fd;
	elf_head head;
	elf_segment segments[SEGMENTS_MAX];
	elf_dynamic dynamic[DYNAMIC_MAX];
	size_t dynamic_count;
};

static void answer(
	struct program *p, enum program_service service, const char *why, const char *remedy)
{
	p->service = service;
	p->why = why;
	p->remedy = remedy;
}

/* How many bytes of at most @size were read. */
static size_t read_some(int fd, uint64_t offset, void *to, size_t size)
{
	ssize_t got = offset > INT64_MAX - size ? -1 : pread(fd, to, size, (off_t)offset);

	return got < 0 ? 0 : (size_t)got;
}

static bool read_all(int fd, uint64_t offset, void *to, size_t size)
{
	return read_some(fd, offset, to, size) == size;
}

/* True if the file has these bytes there. */
static bool has_bytes(int fd, uint64_t offset, const char *bytes, size_t size)
{
	char there[32];

	return size <= sizeof there && read_all(fd, offset, there, size) &&
	       memcmp(there, bytes, size) == 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool begins_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* True for the loaders of other C libraries. */
static bool is_other_loader(const char *path)
{
	static const char *const others[] = {"ld-musl-", "ld-uClibc", "ld64-uClibc"};

	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (begins_with(base_name(path), others[i]))
			return true;
	return false;
}

/* Program headers and dynamic section. False: the kernel would not start it. */
static bool read_tables(struct elf *e)
{
	size_t count = e->head.e_phnum;

	e->dynamic_count = 0;
	if ((e->head.e_type != ET_EXEC && e->head.e_type != ET_DYN) ||
		e->head.e_phentsize != sizeof *e->segments || count == 0 || count > SEGMENTS_MAX ||
		!read_all(e->fd, e->head.e_phoff, e->segments, count * sizeof *e->segments))
		return false;
	for (size_t i = 0; i < count; i++) {
		const elf_segment *s = &e->segments[i];
		size_t size = s->p_filesz < sizeof e->dynamic ? s->p_filesz : sizeof e->dynamic;

		if (s->p_type == PT_DYNAMIC) {
			e->dynamic_count = read_some(e->fd, s->p_offset, e->dynamic, size) /
					   sizeof *e->dynamic;
			break;
		}
	}
	for (size_t i = 0; i < e->dynamic_count; i++)
		if (e->dynamic[i].d_tag == DT_NULL)
			e->dynamic_count = i;
	return true;
}

static const elf_segment *find_segment(const struct elf *e, uint32_t type)
{
	for (size_t i = 0; i < e->head.e_phnum; i++)
		if (e->segments[i].p_type == type)
			return &e->segments[i];
	return NULL;
}

static const elf_dynamic *find_dynamic(const struct elf *e, int64_t tag)
{
	for (size_t i = 0; i < e->dynamic_count; i++)
		if (e->dynamic[i].d_tag == tag)
			return &e->dynamic[i];
	return NULL;
}

/* Where in the file an address is, or UINT64_MAX. */
static uint64_t offset_of(const struct elf *e, uint64_t address)
{
	for (size_t i = 0; i < e->head.e_phnum; i++) {
		const elf_segment *s = &e->segments[i];

		if (s->p_type == PT_LOAD && address - s->p_vaddr < s->p_filesz)
			return s->p_offset + (address - s->p_vaddr);
	}
	return UINT64_MAX;
}

/* True if the program is linked with a library whose name begins so. */
static bool needs(const struct elf *e, const char *library)
{
	const elf_dynamic *names = find_dynamic(e, DT_STRTAB);

	for (size_t i = 0; names != NULL && i < e->dynamic_count; i++)
		if (e->dynamic[i].d_tag == DT_NEEDED &&
			has_bytes(e->fd, offset_of(e, names->d_un.d_ptr + e->dynamic[i].d_un.d_val),
				library, strlen(library)))
			return true;
	return false;
}

/* The build id of Go's linker, which strip leaves. */
static bool has_go_note(const struct elf *e, const elf_segment *segment)
{
	static const char go[4] = "Go\0";
	char notes[NOTES_MAX];
	elf_note note;
	size_t align = segment->p_align == 8 ? 8 : 4, at = 0;
	size_t size = segment->p_filesz < sizeof notes ? segment->p_filesz : sizeof notes;

	size = read_some(e->fd, segment->p_offset, notes, size);
	while (at + sizeof note <= size) {
		memcpy(&note, notes + at, sizeof note);
		at += sizeof note;
		if (note.n_namesz > size - at || note.n_descsz > size - at)
			return false;
		if (note.n_type == 4 && note.n_namesz == sizeof go &&
			memcmp(notes + at, go, sizeof go) == 0)
			return true;
		at = (at + note.n_namesz + align - 1) & ~(align - 1);
		at = (at + note.n_descsz + align - 1) & ~(align - 1);
	}
	return false;
}

/* A program built without that id still has this section. */
static bool has_go_section(const struct elf *e)
{
	static const char name[] = ".go.buildinfo";
	size_t count = e->head.e_shnum < SECTIONS_MAX ? e->head.e_shnum : SECTIONS_MAX;
	elf_section section, names;

	if (e->head.e_shentsize != sizeof section ||
		!read_all(e->fd, e->head.e_shoff + e->head.e_shstrndx * sizeof names, &names,
			sizeof names))
		return false;
	for (size_t i = 0; i < count; i++) {
		if (!read_all(
			    e->fd, e->head.e_shoff + i * sizeof section, &section, sizeof section))
			return false;
		if (has_bytes(e->fd, names.sh_offset + section.sh_name, name, sizeof name))
			return true;
	}
	return false;
}

static bool is_go(const struct elf *e)
{
	for (size_t i = 0; i < e->head.e_phnum; i++)
		if (e->segments[i].p_type == PT_NOTE && has_go_note(e, &e->segments[i]))
			return true;
	return has_go_section(e);
}

/* True when the kernel gives it another user or group than its caller's. */
static bool is_set_id(const struct stat *st)
{
	if (st->st_uid == UNMAPPED_ID || st->st_gid == UNMAPPED_ID)
		return false;
	return ((st->st_mode & S_ISUID) && st->st_uid != getuid()) ||
	       ((st->st_mode & S_ISGID) && (st->st_mode & S_IXGRP) && st->st_gid != getgid());
}

/* True when the file's capabilities(7) set it apart; to a real root they mean nothing. */
static bool has_capabilities(const char *path, bool no_new_rights)
{
	struct vfs_cap_data data;
	ssize_t size = getxattr(path, "security.capability", &data, sizeof data);

	if (getuid() == 0 || size < (ssize_t)XATTR_CAPS_SZ_1)
		return false;
	if (le32toh(data.magic_etc) & VFS_CAP_FLAGS_EFFECTIVE)
		return true;
	return !no_new_rights && (data.data[0].permitted != 0 ||
					 (size == XATTR_CAPS_SZ_2 && data.data[1].permitted != 0));
}

/* With other rights than its caller's, a program has AT_SECURE: its loader takes no preloads. */
static void examine_rights(struct program *p, const struct stat *st)
{
	struct statvfs system;
	bool no_new_rights = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;

	if (statvfs(p->file, &system) == 0 && (system.f_flag & ST_NOSUID))
		return;
	if (!no_new_rights && is_set_id(st))
		answer(p, PROGRAM_UNSERVED, "is setuid or setgid",
			"start it as the user and group it changes to");
	else if (has_capabilities(p->file, no_new_rights))
		answer(p, PROGRAM_UNSERVED, "has file capabilities",
			"give it ambient capabilities instead");
}

static void examine_elf(struct program *p, struct elf *e)
{
	const unsigned char *ident = e->head.e_ident, *ours = __ehdr_start.e_ident;
	const elf_segment *segment;
	char loader[PATH_MAX] = "";

	if (ident[EI_DATA] != ours[EI_DATA] ||
		(ident[EI_CLASS] == ours[EI_CLASS] &&
			e->head.e_machine != __ehdr_start.e_machine)) {
		answer(p, PROGRAM_UNLOADABLE, "is built for another kind of processor",
			"use a build for this one");
		return;
	}
	if (ident[EI_CLASS] != ours[EI_CLASS]) {
		if (ours[EI_CLASS] == ELFCLASS64)
			answer(p, PROGRAM_UNLOADABLE,
				"is a 32-bit program and the library is 64-bit",
				"use a 64-bit build");
		else
			answer(p, PROGRAM_UNLOADABLE,
				"is a 64-bit program and the library is 32-bit",
				"use the 64-bit build of tuplebind");
		return;
	}
	if (!read_tables(e))
		return;
	segment = find_segment(e, PT_INTERP);
	if (segment != NULL &&
		read_some(e->fd, segment->p_offset, loader,
			segment->p_filesz < sizeof loader ? segment->p_filesz : sizeof loader) == 0)
		return;
	loader[sizeof loader - 1] = '\0';
	if (is_other_loader(segment != NULL ? loader : p->file))
		answer(p, PROGRAM_UNLOADABLE, "is built for another libc, the library for glibc",
			"use a build for glibc");
	else if (is_go(e))
		answer(p, PROGRAM_UNSERVED,
			"is a Go program, which makes its system calls without libc",
			"give it local addresses by its own configuration");
	/* Loaders have no loader either, but a name to be linked with. */
	else if (segment == NULL &&
		 !(e->head.e_type == ET_DYN && find_dynamic(e, DT_SONAME) != NULL))
		answer(p, PROGRAM_UNSERVED, "is statically linked",
			"use a dynamically linked build");
	else if (needs(e, "liburing"))
		answer(p, PROGRAM_IN_PART, "is linked with liburing",
			"turn io_uring off in it if it connects so");
}

/*
 * What env(1) is told to start by "#!/usr/bin/env NAME" or "env -S ...", the rest of the line.
 * False if it is more than options without values, assignments, and a name.
 */
static bool find_of_env(char *words, char path[static PATH_MAX])
{
	char *rest = words, *word;

	if (strpbrk(words, "\"'\\$#") != NULL)
		return false;
	while ((word = strsep(&rest, " \t")) != NULL) {
		if (begins_with(word, "-S"))
			word += 2;
		if (word[0] == '\0' || strchr(word, '=') != NULL || strcmp(word, "-vS") == 0 ||
			strcmp(word, "--") == 0)
			continue;
		return word[0] != '-' && program_find(word, path);
	}
	return false;
}

/* The interpreter of a script, from how it begins. False: it is none, or unknown. */
static bool find_interpreter(char *line, char path[static PATH_MAX])
{
	/* A line that goes on where the kernel reads no further may name anything. */
	if (!begins_with(line, "#!") || strcspn(line, "\n") == SCRIPT_LINE_MAX)
		return false;
	line[strcspn(line, "\n")] = '\0';
	char *name = line + 2 + strspn(line + 2, " \t");
	char *rest = name + strcspn(name, " \t");

	if (*rest != '\0')
		*rest++ = '\0';
	if (strcmp(base_name(name), "env") == 0)
		return find_of_env(rest, path);
	return name[0] != '\0' && strlcpy(path, name, PATH_MAX) < PATH_MAX;
}

/* Looks at p->file. True: it is a script, and its interpreter is p->file now. */
static bool examine_file(struct program *p)
{
	struct elf e;
	struct stat st;
	char line[SCRIPT_LINE_MAX + 1] = "";
	bool script = false;

	/* O_NONBLOCK: it may be a FIFO by now. */
	if (stat(p->file, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	e.fd = open(p->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (e.fd < 0) {
		examine_rights(p, &st);
		/* cppcheck-suppress memleak ; there is no descriptor */
		return false;
	}
	if (read_all(e.fd, 0, &e.head, sizeof e.head) &&
		memcmp(e.head.e_ident, ELFMAG, SELFMAG) == 0) {
		examine_elf(p, &e);
		if (p->service == PROGRAM_SERVED || p->service == PROGRAM_IN_PART)
			examine_rights(p, &st);
	} else {
		read_some(e.fd, 0, line, sizeof line - 1);
		script = find_interpreter(line, p->file);
	}
	close(e.fd);
	return script;
}

bool program_find(const char *name, char path[static PATH_MAX])
{
	const char *search = getenv("PATH");
	struct stat st;

	if (strchr(name, '/') != NULL)
		return strlcpy(path, name, PATH_MAX) < PATH_MAX && eaccess(path, X_OK) == 0;
	if (search == NULL)
		search = "/bin:/usr/bin";
	for (;; search++) {
		int length = (int)strcspn(search, ":");

		/* An empty item is the current directory. */
		if (snprintf(path, PATH_MAX, "%.*s%s%s", length, search, length ? "/" : "./",
			    name) < PATH_MAX &&
			stat(path, &st) == 0 && S_ISREG(st.st_mode) && eaccess(path, X_OK) == 0)
			return true;
		search += length;
		if (*search == '\0')
			return false;
	}
}

/* A launcher that sets LD_PRELOAD anew, to its own library alone. */
static bool replaces_preloads(const char *file)
{
	return strcmp(base_name(file), "mptcpize") == 0;
}

void program_examine(struct program *p, const char *path)
{
	answer(p, PROGRAM_SERVED, NULL, NULL);
	if (strlcpy(p->file, path, sizeof p->file) >= sizeof p->file)
		return;
	for (int i = 0; i < FILES_MAX && examine_file(p); i++)
		;
	if (p->service == PROGRAM_SERVED && replaces_preloads(p->file))
		answer(p, PROGRAM_UNSERVED, "has programs preload its own library only",
			"put it in front: mptcpize run tuplebind run PROGRAM");
}
