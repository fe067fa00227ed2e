/*
 * What the screen shows, from the most to the least needed: a screen of few lines has the list
 * alone, one of few columns the numbers, which stand left.
 */
#include "tools/status/top/top.h"

#include "tools/status/display.h"

#include <bsd/libutil.h>
#include <ncurses.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Below this many lines there is no head; below twice that many of it only the first line. */
#define LINES_WITH_HEAD 6

struct cursor {
	int row, column;
};

/* Writes on from the cursor, as far as the line goes. */
static void put(struct cursor *c, int attributes, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void put(struct cursor *c, int attributes, const char *format, ...)
{
	char line[768];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof line, format, arguments);
	va_end(arguments);
	if (c->row >= LINES || c->column >= COLS)
		return;
	attron(attributes);
	mvaddnstr(c->row, c->column, line, COLS - c->column);
	attroff(attributes);
	c->column += (int)strlen(line);
}

static void next_line(struct cursor *c)
{
	c->row++;
	c->column = 0;
}

/* Without colours an alarm is bold; COLOR_PAIRS is 0 until colours were started. */
static int level_attributes(enum display_level level)
{
	int colour = COLOR_PAIRS > 0 && level != DISPLAY_CALM ? COLOR_PAIR((int)level + 1) : 0;

	return level == DISPLAY_ALARM ? (int)((unsigned)colour | A_BOLD) : colour;
}

static void draw_title(struct top *top, const struct snapshot *s, struct cursor *c)
{
	char size[8], clock[16];
	time_t now = time(NULL);
	struct tm local;
	size_t number = 1;

	for (size_t i = 0; i < top->now.count; i++)
		if (&top->now.tables[i] == s)
			number = i + 1;
	put(c, A_BOLD, "%s", s->name);
	if (top->now.count > 1)
		put(c, 0, " (%zu of %zu)", number, top->now.count);
	humanize_number(size, sizeof size, (int64_t)s->size, "B", HN_AUTOSCALE, 0);
	uint64_t used = s->slabs > 0 ? s->slabs_used * 100 / s->slabs : 0;
	put(c, 0, "  %s, ", size);
	put(c, level_attributes(display_level((int)used * 10)), "%llu %% used",
		(unsigned long long)used);
	if (s->capacity.source != CAPACITY_UNKNOWN)
		put(c, 0, ", %u ports", s->capacity.count);
	strftime(clock, sizeof clock, "%H:%M:%S", localtime_r(&now, &local));
	const char *corner = top->paused ? "PAUSED" : clock;
	int place = COLS - (int)strlen(corner);
	if (place > c->column) {
		c->column = place;
		put(c, top->paused ? A_REVERSE : 0, "%s", corner);
	} else if (top->paused) {
		c->column = 0;
		put(c, A_REVERSE, "%s", corner);
	}
	next_line(c);
	put(c, 0, "%zu %s, %llu %s, %zu %s", s->lanes.count,
		display_plural(s->lanes.count, "lane", "lanes"), (unsigned long long)s->claims,
		display_plural(s->claims, "claim", "claims"), s->process_count,
		display_plural(s->process_count, "process", "processes"));
	next_line(c);
}

static uint64_t grown(const struct snapshot *now, const struct snapshot *before, int counter)
{
	uint64_t was = before->counters[counter];

	return now->counters[counter] > was ? now->counters[counter] - was : 0;
}

/* Counters, per second and since the table was made. */
static void draw_counters(struct top *top, const struct snapshot *s, struct cursor *c, bool rates)
{
	static const int shown[] = {TUPLEBIND_BOUND, TUPLEBIND_TIMEWAIT_REUSED, TUPLEBIND_RETRIES,
		TUPLEBIND_FULL, TUPLEBIND_PASSED, TUPLEBIND_TABLE_FULL, TUPLEBIND_REAPED};
	static const char *const names[] = {
		"bound", "timewait", "retries", "full", "passed", "no room", "reaped"};
	const struct snapshot *before = top_table(top, &top->before);

	put(c, 0, "%-6s", rates ? "per s" : "total");
	for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
		double value = (double)s->counters[shown[i]];

		if (rates && (before == NULL || top->seconds <= 0)) {
			put(c, 0, " %s -", names[i]);
			continue;
		}
		if (rates)
			value = (double)grown(s, before, shown[i]) / top->seconds;
		put(c, value > 0 ? level_attributes(display_counter_level(shown[i])) : 0,
			" %s %.0f", names[i], value);
	}
	next_line(c);
}

static void draw_choices(struct top *top, struct cursor *c)
{
	static const char *const views[VIEWS] = {
		"1 lanes", "2 addresses", "3 destinations", "4 processes"};
	static const char *const sorts[2][SORTINGS] = {{"claims", "rate", "address", "destination"},
		{"descriptors", "rate", "id", "name"}};

	for (int i = 0; i < VIEWS; i++) {
		put(c, (int)top->view == i ? A_REVERSE : 0, "%s", views[i]);
		put(c, 0, "  ");
	}
	put(c, 0, "by %s", sorts[top->view == VIEW_PROCESSES][top->sorting]);
	if (top->filter[0] != '\0' || top->typing)
		put(c, A_BOLD, "  /%s%s", top->filter, top->typing ? "_" : "");
	next_line(c);
}

static void draw_heading(struct top *top, struct cursor *c)
{
	static const char *const headings[VIEWS] = {
		"   claims      +/s of its ports      lane",
		"   claims      +/s    lanes  fullest  local address",
		"   claims      +/s of its lanes      lanes  destination",
		"descripts      +/s      pid   runs for  process",
	};

	put(c, A_REVERSE, "%-*s", COLS, headings[top->view]);
	next_line(c);
}

static void put_rate(struct top *top, const struct row *row, struct cursor *c)
{
	if (top->seconds <= 0)
		put(c, 0, "        -");
	else
		put(c, 0, " %+8.0f", row->rate > -0.5 && row->rate < 0.5 ? 0.0 : row->rate);
}

static void draw_process(struct top *top, const struct row *row, struct cursor *c)
{
	const struct snapshot_process *p = row->process;
	uint64_t now = (uint64_t)time(NULL);
	char age[DISPLAY_AGE_MAX] = "-";

	if (p->since > 0)
		display_age(age, now > p->since ? now - p->since : 0);
	if (p->files > 0)
		put(c, 0, "%9llu", (unsigned long long)p->files);
	else
		put(c, 0, "%9s", "-");
	put_rate(top, row, c);
	put(c, 0, " %8u %10s  %s%s", p->pid, age, p->name,
		p->foreign ? " (of another pid namespace)" : "");
}

static void draw_row(
	struct top *top, const struct snapshot *s, const struct row *row, struct cursor *c)
{
	char share[DISPLAY_SHARE_MAX], bar[DISPLAY_BAR + 1];
	struct text t;

	if (row->process != NULL) {
		draw_process(top, row, c);
		next_line(c);
		return;
	}
	bool laddrs = top->view == VIEW_LADDRS;
	int permille =
		laddrs ? snapshot_permille_fullest(s, row->sum) : snapshot_permille(s, row->sum);
	int attributes = level_attributes(display_level(permille));
	display_share(share, permille);
	display_bar(bar, permille);
	put(c, 0, "%9llu", (unsigned long long)row->sum->claims);
	put_rate(top, row, c);
	if (laddrs)
		put(c, 0, " %8llu", (unsigned long long)row->sum->lanes);
	put(c, attributes, laddrs ? "    %s" : " %s %s", share, bar);
	if (top->view == VIEW_DESTINATIONS)
		put(c, 0, " %5llu", (unsigned long long)row->sum->lanes);
	row_text(top, row, &t);
	put(c, 0, "  %s", t.bytes);
	next_line(c);
}

static void draw_list(struct top *top, const struct snapshot *s, struct cursor *c, int end)
{
	top->page = end > c->row ? (size_t)(end - c->row) : 0;
	if (top->first + top->page > top->row_count)
		top->first = top->row_count > top->page ? top->row_count - top->page : 0;
	for (size_t i = top->first; i < top->row_count && c->row < end; i++)
		draw_row(top, s, &top->rows[i], c);
	if (top->row_count == 0 && c->row < end)
		put(c, 0, "%s", top->filter[0] ? "nothing that the filter lets pass" : "nothing");
}

/* What could not be read, NULL: all could. */
static const char *trouble(const struct top *top)
{
	if (top->fault.text[0] != '\0')
		return top->fault.text;
	return top->now.fault_count > 0 ? top->now.faults[0].text : NULL;
}

static void draw_trouble(const struct top *top)
{
	struct cursor c = {.row = LINES - 2};
	const char *plain = trouble(top);
	char line[sizeof top->fault.text];

	/* A file's name may hold anything. */
	snprintf(line, sizeof line, "%s", plain);
	for (char *p = line; *p != '\0'; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	put(&c, level_attributes(DISPLAY_WARNING), "%s", line);
}

static void draw_foot(struct top *top)
{
	struct cursor c = {.row = LINES - 1};
	size_t end =
		top->first + top->page < top->row_count ? top->first + top->page : top->row_count;

	if (top->typing)
		put(&c, 0, "text to look for; Enter keeps the filter, Esc drops it");
	else
		put(&c, 0,
			"q quit  h help  / filter  p pause  c r a d sort  Tab table   %zu-%zu of "
			"%zu",
			top->row_count > 0 ? top->first + 1 : 0, end, top->row_count);
}

static void draw_help(void)
{
	static const char *const lines[] = {
		"1 2 3 4, Left, Right   lanes, addresses, destinations, processes",
		"c r a d                sort by claims, rate, address, destination",
		"                       (processes: descriptors, rate, id, name)",
		"/ or f                 show only what has the text; Esc: all again",
		"p or Space             pause, go on",
		"Up, Down, PgUp, PgDn   move in the list; Home, End",
		"Tab                    the next table",
		"q                      quit",
		"",
		"A lane is all tuples from one local address to one destination; a claim",
		"is a port taken. full: connects that found no tuple left. passed: left",
		"to the kernel; no room: of these, for want of room in the table.",
		"tuplebind status tells the reasons of the others.",
		"+/s is how much the number has changed, per second.",
		"",
		"any key: back",
	};
	struct cursor c = {.row = 0};

	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		put(&c, 0, "%s", lines[i]);
		next_line(&c);
	}
}

static void draw_table(struct top *top, const struct snapshot *s)
{
	struct cursor c = {.row = 0};

	if (LINES >= LINES_WITH_HEAD)
		draw_title(top, s, &c);
	if (LINES >= 2 * LINES_WITH_HEAD) {
		draw_counters(top, s, &c, true);
		draw_counters(top, s, &c, false);
	}
	if (LINES >= LINES_WITH_HEAD)
		draw_choices(top, &c);
	if (LINES > 2)
		draw_heading(top, &c);
	bool troubled = trouble(top) != NULL && LINES >= 2 * LINES_WITH_HEAD;
	draw_list(top, s, &c, LINES > 1 ? LINES - 1 - troubled : LINES);
	if (troubled)
		draw_trouble(top);
	if (LINES > 1)
		draw_foot(top);
}

void screen_draw(struct top *top)
{
	const struct snapshot *s = top_table(top, &top->now);
	struct cursor c = {.row = 0};

	erase();
	if (top->help) {
		draw_help();
	} else if (s != NULL) {
		draw_table(top, s);
	} else {
		put(&c, 0, "no tables: no program has run under tuplebind as this user");
		if (trouble(top) != NULL && LINES > 2)
			draw_trouble(top);
		draw_foot(top);
	}
	refresh();
}
