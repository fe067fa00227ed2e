#include "choose/config.h"

#include "table/table.h"

#include <assert.h>
#include <bsd/string.h>
#include <stdlib.h>
#include <string.h>

const char *const config_names[] = {"ADDRS", "PORTS", "PROTOCOLS", "BALANCE", "RULES", "SKIP",
	"FULL", "UNUSABLE", "BACKEND", "TABLE", "TABLE_SIZE", "LOG", "LOG_FILE", "DISABLE",
	"STRICT", NULL};

/* Reads one variable's value into its place; the fault is told without the variable's name. */
typedef int reader(struct config *c, const char *value, struct fault *f);

static int read_word(const char *value, const char *const words[], const char *accepted, int *out,
	struct fault *f)
{
	int word = parse_word(value, words);

	if (word < 0)
		return fault_set(f, "\"%.60s\" is not known; accepted: %s", value, accepted);
	*out = word;
	return 0;
}

static int read_flag(const char *value, bool *out, struct fault *f)
{
	if (parse_flag(value, out) < 0)
		return fault_set(f, "\"%.60s\" is not a switch; accepted: 0, 1", value);
	return 0;
}

static int read_addrs(struct config *c, const char *value, struct fault *f)
{
	c->addrs = value;
	return 0;
}

static int read_ports(struct config *c, const char *value, struct fault *f)
{
	c->ports = value;
	return 0;
}

static int read_rules(struct config *c, const char *value, struct fault *f)
{
	c->rules = value;
	return 0;
}

static int read_skip(struct config *c, const char *value, struct fault *f)
{
	c->skip = value;
	return 0;
}

/* A list of the protocols that are taken over. */
static int read_protocols(struct config *c, const char *value, struct fault *f)
{
	static const char *const words[] = {"tcp", "udp", NULL};
	static const unsigned meant[] = {PROTOCOL_TCP, PROTOCOL_UDP};
	const char *rest = value;
	unsigned protocols = 0;
	char item[32];
	int got;

	while ((got = parse_next(&rest, ',', item, sizeof item)) != 0) {
		int word = got < 0 ? -1 : parse_word(item, words);

		if (word < 0)
			return fault_set(f,
				"\"%.60s\" is not a list of protocols; accepted: tcp, udp, or "
				"tcp,udp",
				value);
		protocols |= meant[word];
	}
	c->protocols = protocols;
	return 0;
}

static int read_balance(struct config *c, const char *value, struct fault *f)
{
	static const char *const words[] = {"rotate", "random", "hash", "pack", NULL};
	int word = (int)c->balance;
	int error = read_word(value, words, "rotate, random, hash, pack", &word, f);

	c->balance = (enum balance)word;
	return error;
}

static int read_full(struct config *c, const char *value, struct fault *f)
{
	static const char *const words[] = {"fail", "kernel", NULL};
	int word = (int)c->when_full;
	int error = read_word(value, words, "fail, kernel", &word, f);

	c->when_full = (enum when_full)word;
	return error;
}

static int read_unusable(struct config *c, const char *value, struct fault *f)
{
	static const char *const words[] = {"kernel", "fail", NULL};
	int word = (int)c->when_unusable;
	int error = read_word(value, words, "kernel, fail", &word, f);

	c->when_unusable = (enum when_unusable)word;
	return error;
}

static int read_backend(struct config *c, const char *value, struct fault *f)
{
	static const char *const words[] = {"auto", "late", "explicit", NULL};
	int word = (int)c->backend;
	int error = read_word(value, words, "auto, late, explicit", &word, f);

	c->backend = (enum backend)word;
	return error;
}

static int read_table(struct config *c, const char *value, struct fault *f)
{
	if (!table_name_valid(value))
		return fault_set(f,
			"\"%.60s\" is not a table's name; accepted: private, or up to %d of "
			"A-Z a-z 0-9 _ - and dots, not beginning with a dot",
			value, TABLE_NAME_MAX);
	c->table = value;
	return 0;
}

static int read_table_size(struct config *c, const char *value, struct fault *f)
{
	if (parse_size(value, TABLE_SIZE_MIN, TABLE_SIZE_MAX, &c->table_size) < 0)
		return fault_set(f,
			"\"%.60s\" is not a table's size; accepted: bytes from 256K to 16G, "
			"like 8M",
			value);
	return 0;
}

static int read_log(struct config *c, const char *value, struct fault *f)
{
	static const char *const words[] = {"off", "error", "warn", "info", "debug", NULL};
	int word = (int)c->log_level;
	int error = read_word(value, words, "off, error, warn, info, debug", &word, f);

	c->log_level = (enum log_level)word;
	return error;
}

static int read_log_file(struct config *c, const char *value, struct fault *f)
{
	c->log_file = value;
	return 0;
}

static int read_disable(struct config *c, const char *value, struct fault *f)
{
	return read_flag(value, &c->disabled, f);
}

static int read_strict(struct config *c, const char *value, struct fault *f)
{
	return read_flag(value, &c->strict, f);
}

/* In the order of config_names. */
static reader *const readers[] = {read_addrs, read_ports, read_protocols, read_balance, read_rules,
	read_skip, read_full, read_unusable, read_backend, read_table, read_table_size, read_log,
	read_log_file, read_disable, read_strict};

static_assert(sizeof readers / sizeof *readers + 1 == sizeof config_names / sizeof *config_names,
	"each variable has its reader");

void config_start(struct config *c)
{
	*c = (struct config){
		.protocols = PROTOCOL_TCP,
		.log_level = LOG_WARN,
		.table_size = TABLE_SIZE_DEFAULT,
		.addrs = "auto",
		.ports = "auto",
	};
}

int config_set(struct config *c, unsigned variable, const char *value, struct fault *f)
{
	struct fault inner;

	/* An empty variable counts as unset, as POSIX has it for most of its own. */
	if (value == NULL || value[0] == '\0' || readers[variable](c, value, &inner) == 0)
		return 0;
	return fault_set(f, "TUPLEBIND_%s: %.360s", config_names[variable], inner.text);
}

int config_read(struct config *c, struct fault *f)
{
	int error = 0;

	config_start(c);
	/* All are read in spite of a fault: some say how it is to be told. */
	for (unsigned i = 0; config_names[i] != NULL; i++) {
		char name[32] = "TUPLEBIND_";
		struct fault unused;

		strlcat(name, config_names[i], sizeof name);
		int next_error = config_set(c, i, secure_getenv(name), error < 0 ? &unused : f);
		if (error == 0)
			error = next_error;
	}
	return c->disabled ? 0 : error;
}
