#include "tools/status/top/top.h"

#include <ncurses.h>
#include <string.h>

#define ESCAPE 27

static void type(struct top *top, int key)
{
	size_t length = strlen(top->filter);

	if (key == '\n' || key == '\r' || key == KEY_ENTER) {
		top->typing = false;
	} else if (key == ESCAPE) {
		top->typing = false;
		top->filter[0] = '\0';
	} else if ((key == KEY_BACKSPACE || key == 127 || key == '\b') && length > 0) {
		top->filter[length - 1] = '\0';
	} else if (key >= ' ' && key <= '~' && length < sizeof top->filter - 1) {
		top->filter[length] = (char)key;
		top->filter[length + 1] = '\0';
	}
	top->first = 0;
}

static void show(struct top *top, enum view view)
{
	top->view = view;
	top->first = 0;
}

static void scroll_by(struct top *top, long rows)
{
	long first = (long)top->first + rows;
	long last = (long)top->row_count - (long)top->page;

	if (first > last)
		first = last;
	top->first = first > 0 ? (size_t)first : 0;
}

static bool move_in_list(struct top *top, int key)
{
	long page = top->page > 1 ? (long)top->page : 1;

	switch (key) {
	case KEY_UP:
	case 'k':
		scroll_by(top, -1);
		return true;
	case KEY_DOWN:
	case 'j':
		scroll_by(top, 1);
		return true;
	case KEY_PPAGE:
		scroll_by(top, -page);
		return true;
	case KEY_NPAGE:
		scroll_by(top, page);
		return true;
	case KEY_HOME:
		top->first = 0;
		return true;
	case KEY_END:
		scroll_by(top, (long)top->row_count);
		return true;
	case KEY_LEFT:
		show(top, (top->view + VIEWS - 1) % VIEWS);
		return true;
	case KEY_RIGHT:
		show(top, (top->view + 1) % VIEWS);
		return true;
	case '\t':
		top_next_table(top);
		return true;
	default:
		return false;
	}
}

void keys_press(struct top *top, int key)
{
	static const char sorts[SORTINGS + 1] = "crad";
	const char *sort;

	if (key == KEY_RESIZE) {
		clearok(stdscr, TRUE); /* who knows what the terminal kept */
		return;
	}
	if (top->typing) {
		type(top, key);
		return;
	}
	if (top->help) {
		top->help = false;
		top->quit = key == 'q';
		return;
	}
	if (move_in_list(top, key))
		return;
	sort = key > 0 && key < 128 ? strchr(sorts, key) : NULL;
	if (sort != NULL) {
		top->sorting = (enum sorting)(sort - sorts);
		top->first = 0;
	} else if (key >= '1' && key < '1' + VIEWS) {
		show(top, (enum view)(key - '1'));
	} else if (key == '/' || key == 'f') {
		top->typing = true;
	} else if (key == ESCAPE) {
		top->filter[0] = '\0';
	} else if (key == 'p' || key == ' ') {
		top->paused = !top->paused;
	} else if (key == 'h' || key == '?') {
		top->help = true;
	} else if (key == 'q' || key == 'Q') {
		top->quit = true;
	}
}
