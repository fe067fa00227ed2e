#include "tools/status/top/top.h"

#include "tools/status/display.h"

#include <stdlib.h>
#include <string.h>

static bool is_shown(const struct top *top, const struct snapshot *s)
{
	return s->netns == top->table_netns && strcmp(s->name, top->table_name) == 0;
}

const struct snapshot *top_table(const struct top *top, const struct snapshots *of)
{
	for (size_t i = 0; i < of->count; i++)
		if (is_shown(top, &of->tables[i]))
			return &of->tables[i];
	return NULL;
}

static void show_table(struct top *top, const struct snapshot *s)
{
	memcpy(top->table_name, s->name, sizeof top->table_name);
	top->table_netns = s->netns;
	top->first = 0;
}

void top_choose_table(struct top *top)
{
	const struct snapshots *all = &top->now;

	if (all->count == 0 || top_table(top, all) != NULL)
		return;
	for (size_t i = 0; i < all->count; i++) {
		if (all->tables[i].here) {
			show_table(top, &all->tables[i]);
			return;
		}
	}
	show_table(top, &all->tables[0]);
}

void top_next_table(struct top *top)
{
	for (size_t i = 0; i < top->now.count; i++) {
		if (is_shown(top, &top->now.tables[i])) {
			show_table(top, &top->now.tables[(i + 1) % top->now.count]);
			return;
		}
	}
}

void row_text(const struct top *top, const struct row *row, struct text *t)
{
	text_clear(t);
	switch (top->view) {
	case VIEW_LANES:
		display_lane(t, &row->sum->lane);
		break;
	case VIEW_LADDRS:
		display_laddr(t, &row->sum->lane);
		break;
	case VIEW_DESTINATIONS:
		display_destination(t, &row->sum->lane);
		break;
	default:
		text_put(t, row->process->name);
	}
}

static const struct snapshot_sums *sums_of(const struct snapshot *s, enum view view)
{
	return view == VIEW_LANES ? &s->lanes : view == VIEW_LADDRS ? &s->laddrs : &s->destinations;
}

static bool passes(const struct top *top, const struct row *row)
{
	struct text t;

	if (top->filter[0] == '\0')
		return true;
	row_text(top, row, &t);
	return strcasestr(t.bytes, top->filter) != NULL;
}

static void add(struct top *top, const struct row *row)
{
	if (passes(top, row))
		top->rows[top->row_count++] = *row;
}

/* Rows of sums. @before is sorted by lane. */
static void add_sums(
	struct top *top, const struct snapshot_sums *now, const struct snapshot_sums *before)
{
	for (size_t i = 0; i < now->count; i++) {
		struct row row = {.sum = &now->items[i]};
		const struct snapshot_sum *was =
			before == NULL ? NULL : snapshot_find(before, &row.sum->lane);
		double change = (double)row.sum->claims - (was ? (double)was->claims : 0);

		if (before != NULL && top->seconds > 0)
			row.rate = change / top->seconds;
		add(top, &row);
	}
}

/* Lanes whose claims have all gone since are rows no more: their rate shows in the sums. */
static void add_processes(
	struct top *top, const struct snapshot *now, const struct snapshot *before)
{
	for (size_t i = 0; i < now->process_count; i++) {
		struct row row = {.process = &now->processes[i]};

		for (size_t k = 0; before != NULL && k < before->process_count; k++)
			if (before->processes[k].pid == row.process->pid && top->seconds > 0)
				row.rate = ((double)row.process->files -
						   (double)before->processes[k].files) /
					   top->seconds;
		add(top, &row);
	}
}

static int descending(double one, double other)
{
	return (one < other) - (one > other);
}

static double amount(const struct row *r)
{
	return r->sum != NULL ? (double)r->sum->claims : (double)r->process->files;
}

/* By address the id of a process, by destination its name. */
static int by_address(const struct row *one, const struct row *other)
{
	if (one->sum == NULL)
		return (one->process->pid > other->process->pid) -
		       (one->process->pid < other->process->pid);
	return memcmp(one->sum->lane.laddr, other->sum->lane.laddr, sizeof one->sum->lane.laddr);
}

static int by_destination(const struct row *one, const struct row *other)
{
	if (one->sum == NULL)
		return strcmp(one->process->name, other->process->name);
	const struct tuplebind_lane *a = &one->sum->lane, *b = &other->sum->lane;
	/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): a view's rows are alike */
	int order = memcmp(a->faddr, b->faddr, sizeof a->faddr);

	return order != 0 ? order : (a->fport > b->fport) - (a->fport < b->fport);
}

static int compare(const void *a, const void *b, void *context)
{
	const struct row *one = a, *other = b;
	const struct top *top = context;
	int order = 0;

	switch (top->sorting) {
	case SORT_RATE:
		order = descending(one->rate, other->rate);
		break;
	case SORT_ADDRESS:
		order = by_address(one, other);
		break;
	case SORT_DESTINATION:
		order = by_destination(one, other);
		break;
	default:
		break;
	}
	/* Rows that are alike keep their places from one screen to the next. */
	if (order == 0)
		order = descending(amount(one), amount(other));
	if (order == 0)
		order = by_destination(one, other);
	return order != 0 ? order : by_address(one, other);
}

void rows_make(struct top *top)
{
	const struct snapshot *now = top_table(top, &top->now);
	const struct snapshot *before = top_table(top, &top->before);

	free(top->rows);
	top->rows = NULL;
	top->row_count = 0;
	if (now == NULL)
		return;
	bool processes = top->view == VIEW_PROCESSES;
	size_t most = processes ? now->process_count : sums_of(now, top->view)->count;
	top->rows = calloc(most + 1, sizeof *top->rows);
	if (top->rows == NULL)
		return;
	if (processes)
		add_processes(top, now, before);
	else
		add_sums(top, sums_of(now, top->view),
			before != NULL ? sums_of(before, top->view) : NULL);
	qsort_r(top->rows, top->row_count, sizeof *top->rows, compare, top);
}
