#include "choose/config.h"

#include "table/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *const config_names[] = {"ADDRS", "PORTS", "PROTOCOLS", "BALANCE", "RULES", "SKIP",
	"FULL", "BACKEND", "TABLE", "TABLE_SIZE", "LOG", "LOG_FILE", "DISABLE", "STRICT", NULL};

/* An empty variable counts as unset, as POSIX has it for most of its own. */
static const char *get(const char *name)
{
	const char *value = secure_getenv(name);

	return value != NULL && value[0] != '\0' ? value : NULL;
}

static int get_word(const char *name, const char *const words[], const char *accepted, int preset,
	int *out, struct fault *f)
{
	const char *value = get(name);
	int word = value == NULL ? preset : parse_word(value, words);

	if (word < 0)
		return fault_set(
			f, "%s: \"%.60s\" is not known; accepted: %s", name, value, accepted);
	*out = word;
	return 0;
}

static int get_flag(const char *name, bool *out, struct fault *f)
{
	const char *value = get(name);

	*out = false;
	if (value != NULL && parse_flag(value, out) < 0)
		return fault_set(f, "%s: \"%.60s\" is not a switch; accepted: 0, 1", name, value);
	return 0;
}

static int get_table(struct config *c, struct fault *f)
{
	const char *size = get("TUPLEBIND_TABLE_SIZE");

	c->table = get("TUPLEBIND_TABLE");
	c->table_size = TABLE_SIZE_DEFAULT;
	if (c->table != NULL && !table_name_valid(c->table))
		return fault_set(f,
			"TUPLEBIND_TABLE: \"%.60s\" is not a table's name; accepted: private, or "
			"up to %d of "
			"A-Z a-z 0-9 _ - and dots, not beginning with a dot",
			c->table, TABLE_NAME_MAX);
	if (size != NULL && parse_size(size, TABLE_SIZE_MIN, TABLE_SIZE_MAX, &c->table_size) < 0)
		return fault_set(f,
			"TUPLEBIND_TABLE_SIZE: \"%.60s\" is not a table's size; accepted: bytes "
			"from 256K to 16G, "
			"like 8M",
			size);
	return 0;
}

/* A list of the protocols that are taken over. */
static int get_protocols(unsigned *protocols, struct fault *f)
{
	static const char *const words[] = {"tcp", "udp", NULL};
	static const unsigned meant[] = {PROTOCOL_TCP, PROTOCOL_UDP};
	const char *value = get("TUPLEBIND_PROTOCOLS"), *rest = value ? value : "tcp";
	char item[32];
	int got;

	*protocols = 0;
	while ((got = parse_next(&rest, ',', item, sizeof item)) != 0) {
		int word = got < 0 ? -1 : parse_word(item, words);

		if (word < 0)
			return fault_set(f,
				"TUPLEBIND_PROTOCOLS: \"%.60s\" is not a list of protocols; "
				"accepted: "
				"tcp, udp, or tcp,udp",
				value);
		*protocols |= meant[word];
	}
	return 0;
}

int config_read(struct config *c, struct fault *f)
{
	static const char *const levels[] = {"off", "error", "warn", "info", "debug", NULL};
	static const char *const backends[] = {"auto", "late", "explicit", NULL};
	static const char *const balances[] = {"rotate", "random", "hash", "pack", NULL};
	static const char *const fulls[] = {"fail", "kernel", NULL};
	int value, error;

	*c = (struct config){
		.log_level = LOG_WARN,
		.log_file = get("TUPLEBIND_LOG_FILE"),
		.addrs = get("TUPLEBIND_ADDRS"),
		.ports = get("TUPLEBIND_PORTS"),
		.rules = get("TUPLEBIND_RULES"),
		.skip = get("TUPLEBIND_SKIP"),
	};
	if (c->addrs == NULL)
		c->addrs = "auto";
	if (c->ports == NULL)
		c->ports = "auto";
	/* What decides how an error is told is read whatever else is wrong; the first fault is
	 * told. */
	struct fault unused;
	error = get_flag("TUPLEBIND_STRICT", &c->strict, f);
	int next_error = get_flag("TUPLEBIND_DISABLE", &c->disabled, error < 0 ? &unused : f);
	if (error == 0)
		error = next_error;
	next_error = get_word("TUPLEBIND_LOG", levels, "off, error, warn, info, debug", LOG_WARN,
		&value, error < 0 ? &unused : f);
	if (next_error == 0)
		c->log_level = (enum log_level)value;
	if (c->disabled)
		return 0;
	if (error < 0 || (error = next_error) < 0)
		return error;
	if ((error = get_word("TUPLEBIND_BACKEND", backends, "auto, late, explicit", BACKEND_AUTO,
		     &value, f)) < 0)
		return error;
	c->backend = (enum backend)value;
	if ((error = get_word("TUPLEBIND_BALANCE", balances, "rotate, random, hash, pack",
		     BALANCE_ROTATE, &value, f)) < 0)
		return error;
	c->balance = (enum balance)value;
	if ((error = get_word("TUPLEBIND_FULL", fulls, "fail, kernel", FULL_FAIL, &value, f)) < 0)
		return error;
	c->when_full = (enum when_full)value;
	if ((error = get_protocols(&c->protocols, f)) < 0)
		return error;
	return get_table(c, f);
}
