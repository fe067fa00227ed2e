/*
 * The engine: what becomes of a call, step by step, with a front that makes it for real or answers
 * what the case says.
 */
#include "engine/call.h"
#include "engine/engine.h"
#include "engine/state.h"
#include "fixture.h"
#include "table/flight.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORTS_MOST 64

static struct engine engine;
static struct fixture_connection connection; /* its listener is whom calls go to */
static struct state state;

/* What the front is to do, and what it saw. */
static struct {
	int answer;	/* of the call: 0: it is made; else this errno, and nothing is done */
	int answers;	/* calls to be answered so; then they are made */
	bool no_state;	/* there is no room for one */
	bool untouched; /* nothing was done to the socket */
	int calls, states, passed, entered;
	int in_flight, claimed; /* calls with a claim that was so */
	uint16_t ports[PORTS_MOST];
} front_is;

static int make(const struct call *c, void (*cancelled)(void *), void *context)
{
	claim held = state_claim(&state);

	front_is.claimed += held != CLAIM_NONE;
	front_is.in_flight += held != CLAIM_NONE && cancelled != NULL && context != NULL &&
			      flight_has(&engine.table, held);
	if (held != CLAIM_NONE && front_is.calls < PORTS_MOST)
		front_is.ports[front_is.calls] = claim_port(&engine.table, held);
	if (front_is.calls++ < front_is.answers)
		return front_is.answer;
	return connect(c->fd, c->to, c->length) < 0 ? errno : 0;
}

static struct state *make_state(const struct call *c)
{
	if (front_is.no_state)
		return NULL;
	front_is.states++;
	state_begin(&state, c->kind, 0);
	return &state;
}

static bool is_untouched(const struct call *c, uint8_t protocol)
{
	return front_is.untouched;
}

static bool note_passed(const struct call *c)
{
	front_is.passed++;
	return front_is.untouched;
}

static void enter(const struct call *c)
{
	front_is.entered++;
	atomic_store(&engine.token, process_own_token());
}

static bool may_fork(void)
{
	return true;
}

static const struct front front = {make, make_state, is_untouched, note_passed, enter, may_fork};

static void start(void)
{
	static struct config config;
	struct fault fault;

	fixture_variable("TABLE", "private");
	cr_assert_eq(config_read(&config, &fault), 0, "%s", fault.text);
	cr_assert_eq(engine_prepare(&engine, &config, &fault), 0, "%s", fault.text);
	engine_start(&engine);
	atomic_store(&engine.active, 1);
}

static void setup(void)
{
	fixture_clean_environment();
	fixture_connect(&connection);
}

TestSuite(engine, .init = setup);

static struct sockaddr_in listener(void)
{
	struct sockaddr_in to;
	socklen_t length = sizeof to;

	cr_assert_eq(getsockname(connection.listener, (struct sockaddr *)&to, &length), 0);
	return to;
}

static struct outcome connect_to(int fd, struct sockaddr_in to)
{
	struct call call = {.front = &front,
		.engine = &engine,
		.fd = fd,
		.to = (struct sockaddr *)&to,
		.length = sizeof to};

	return engine_connect(&call, front_is.states > 0 ? &state : NULL);
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in name;
	socklen_t length = sizeof name;

	cr_assert_eq(getsockname(fd, (struct sockaddr *)&name, &length), 0);
	return ntohs(name.sin_port);
}

static int tcp(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static void expect(struct outcome o, enum became became, int error)
{
	cr_expect_eq((int)o.became, (int)became, "became %d, not %d", (int)o.became, (int)became);
	cr_expect_eq(o.error, error, "error %d, not %d", o.error, error);
}

Test(engine, gives_the_tuple_that_was_claimed)
{
	int fd = tcp();

	start();
	expect(connect_to(fd, listener()), BECAME_GIVEN, 0);
	cr_expect_eq(front_is.calls, 1);
	cr_expect_eq(front_is.in_flight, 1);
	cr_expect_eq(front_is.entered, 1);
	cr_expect_eq(claim_port(&engine.table, state_claim(&state)), port_of(fd));
	cr_expect_not(flight_has(&engine.table, state_claim(&state)));
	cr_expect_eq(fixture_claims(&engine.table), 1);
	close(fd);
}

Test(engine, udp_likewise)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	fixture_variable("PROTOCOLS", "udp");
	start();
	struct outcome o = connect_to(fd, listener());
	/* Where the kernel has no udp_diag it is left to it. */
	cr_expect_eq(o.error, 0);
	if (o.became == BECAME_GIVEN)
		cr_expect_eq(claim_port(&engine.table, state_claim(&state)), port_of(fd));
	else
		cr_expect_eq(front_is.passed, 1);
	close(fd);
}

Test(engine, refused_connection_keeps_no_claim)
{
	int fd = tcp();

	front_is.answer = ECONNREFUSED;
	front_is.answers = 1;
	start();
	expect(connect_to(fd, listener()), BECAME_GIVEN, ECONNREFUSED);
	cr_expect_eq(front_is.claimed, 1);
	cr_expect_eq(state_claim(&state), CLAIM_NONE);
	cr_expect_eq(fixture_claims(&engine.table), 0);
	close(fd);
}

Test(engine, goes_on_connecting_with_its_claim)
{
	int fd = tcp();

	front_is.answer = EINPROGRESS;
	front_is.answers = 1;
	start();
	expect(connect_to(fd, listener()), BECAME_GIVEN, EINPROGRESS);
	cr_expect_neq(state_claim(&state), CLAIM_NONE);
	close(fd);
}

Test(engine, next_port_where_somebody_has_the_tuple)
{
	int fd = tcp();

	front_is.answer = EADDRNOTAVAIL;
	front_is.answers = 3;
	start();
	expect(connect_to(fd, listener()), BECAME_GIVEN, 0);
	cr_expect_eq(front_is.calls, 4);
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < i; k++)
			cr_expect_neq(front_is.ports[i], front_is.ports[k]);
	/* Theirs stay claimed until reap finds that nobody has them. */
	cr_expect_eq(fixture_claims(&engine.table), 4);
	close(fd);
}

/* A stranger has each tuple of the ports 40000 to 40003. */
static void take_all(void)
{
	struct sockaddr_in to = listener();

	cr_assert_eq(listen(connection.listener, 16), 0);
	for (uint16_t port = 40000; port <= 40003; port++) {
		struct sockaddr_in name = {.sin_family = AF_INET,
			.sin_port = htons(port),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		struct linger none = {.l_onoff = 1};
		int fd = tcp(), on = 1;

		/* Its end leaves nothing in TIME_WAIT. */
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		cr_assert_eq(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
		cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
	}
	fixture_variable("PORTS", "40000-40003");
}

Test(engine, refuses_when_every_tuple_is_somebodys)
{
	int fd = tcp();

	take_all();
	start();
	expect(connect_to(fd, listener()), BECAME_REFUSED, EADDRNOTAVAIL);
	cr_expect_eq(state_claim(&state), CLAIM_NONE);
	cr_expect_eq(front_is.passed, 0);
	close(fd);
}

Test(engine, leaves_it_to_the_kernel_when_full_if_so_told)
{
	int fd = tcp();

	take_all();
	fixture_variable("FULL", "kernel");
	start();
	expect(connect_to(fd, listener()), BECAME_PASSED, 0);
	cr_expect_eq(front_is.passed, 1);
	close(fd);
}

Test(engine, passes_what_the_settings_skip)
{
	int fd = tcp();

	fixture_variable("SKIP", "127.0.0.0/8");
	start();
	expect(connect_to(fd, listener()), BECAME_PASSED, 0);
	cr_expect(front_is.calls == 1 && front_is.passed == 1 && front_is.states == 0);
	cr_expect_eq(front_is.entered, 0);
	cr_expect_eq(fixture_claims(&engine.table), 0);
	close(fd);
}

Test(engine, passes_a_port_that_the_program_chose)
{
	int fd = tcp();
	struct sockaddr_in name = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	cr_assert_eq(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
	uint16_t port = port_of(fd);
	start();
	expect(connect_to(fd, listener()), BECAME_PASSED, 0);
	cr_expect_eq(port_of(fd), port);
	close(fd);
}

Test(engine, passes_other_kinds_of_socket)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	start(); /* TCP alone */
	expect(connect_to(fd, listener()), BECAME_MADE, 0);
	cr_expect_eq(front_is.passed, 0); /* not one that would be served */
	close(fd);
}

Test(engine, leaves_from_the_address_that_the_program_bound)
{
	int fd = tcp(), on = 1;
	struct sockaddr_in name = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 8)};
	socklen_t length = sizeof name;

	cr_assert_eq(setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on), 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
	fixture_variable("ADDRS", "127.0.0.7");
	start();
	expect(connect_to(fd, listener()), BECAME_GIVEN, 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&name, &length), 0);
	cr_expect_eq(ntohl(name.sin_addr.s_addr), INADDR_LOOPBACK + 8);
	close(fd);
}

Test(engine, leaves_from_the_pool)
{
	struct sockaddr_in name;
	socklen_t length = sizeof name;
	int fd = tcp();

	/* From the first no loopback address is reached. */
	fixture_variable("ADDRS", "192.0.2.1,127.0.0.7");
	fixture_variable("BALANCE", "pack");
	start();
	expect(connect_to(fd, listener()), BECAME_GIVEN, 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&name, &length), 0);
	cr_expect_eq(ntohl(name.sin_addr.s_addr), INADDR_LOOPBACK + 6);
	close(fd);
}

Test(engine, second_connect_asks_and_keeps)
{
	int fd = tcp();

	start();
	expect(connect_to(fd, listener()), BECAME_GIVEN, 0);
	claim held = state_claim(&state);
	expect(connect_to(fd, listener()), BECAME_MADE, EISCONN);
	cr_expect_eq(state_claim(&state), held);
	cr_expect_eq(fixture_claims(&engine.table), 1);
	close(fd);
}

Test(engine, unspecified_destination_gives_the_claim_back)
{
	int fd = tcp();

	start();
	expect(connect_to(fd, listener()), BECAME_GIVEN, 0);
	cr_expect_eq(connect_to(fd, (struct sockaddr_in){.sin_family = AF_UNSPEC}).error, 0);
	cr_expect_eq(state_claim(&state), CLAIM_NONE);
	cr_expect_eq(fixture_claims(&engine.table), 0);
	/* And again, as a new socket. */
	expect(connect_to(fd, listener()), BECAME_GIVEN, 0);
	cr_expect_eq(claim_port(&engine.table, state_claim(&state)), port_of(fd));
	close(fd);
}

Test(engine, no_room_for_a_state)
{
	int fd = tcp();

	front_is.no_state = true;
	start();
	expect(connect_to(fd, listener()), BECAME_PASSED, 0);
	cr_expect_eq(fixture_claims(&engine.table), 0);
	close(fd);
}

Test(engine, untouched_socket_is_not_asked)
{
	int fd = tcp();

	/* Were it asked, its port would show that it is not to be served. */
	struct sockaddr_in name = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	cr_assert_eq(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
	front_is.untouched = true;
	start();
	connect_to(fd, listener());
	cr_expect_eq(front_is.states, 1);
	close(fd);
}

Test(engine, table_that_was_written_over)
{
	int fd = tcp();

	fixture_variable("UNUSABLE", "fail");
	start();
	memset(engine.table.header, 0, 64);
	expect(connect_to(fd, listener()), BECAME_REFUSED, EADDRNOTAVAIL);
	cr_expect(engine_refuses(&engine) && !engine_active(&engine));
	cr_expect_eq(front_is.calls, 0);
	close(fd);
}

Test(engine, refusing_lets_others_pass)
{
	struct sockaddr_in to = listener();
	int fd = tcp(), other = socket(AF_INET, SOCK_DGRAM, 0);
	struct call call = {.front = &front,
		.engine = &engine,
		.to = (struct sockaddr *)&to,
		.length = sizeof to};

	start();
	call.fd = fd;
	expect(engine_connect_refusing(&call), BECAME_REFUSED, EADDRNOTAVAIL);
	call.fd = other;
	expect(engine_connect_refusing(&call), BECAME_MADE, 0);
	close(fd);
	close(other);
}

/* Where the table cannot be judged the kernel searches, and what it finds becomes the socket's. */
Test(engine, adopts_what_the_kernel_finds)
{
	int fd = tcp();
	struct tuplebind_lane lane = connection.lane;
	claim stale;

	fixture_variable("BACKEND", "late");
	fixture_variable("PORTS", "40009");
	start();
	if (!plan_has_late(&engine.plan))
		return;
	/* A claim without a socket, and no look is to come. */
	cr_assert_eq(claim_take_port(&engine.table, &lane, 40009, NULL, &stale), 0);
	atomic_store(&engine.looks.blind, 1);
	atomic_store(&engine.looks.next, UINT64_MAX);
	atomic_store(&engine.looks.next_for_strays, UINT64_MAX);
	expect(connect_to(fd, listener()), BECAME_GIVEN, 0);
	cr_expect_eq(port_of(fd), 40009);
	cr_expect_eq(state_claim(&state), stale);
	cr_expect_eq(fixture_claims(&engine.table), 1);
	cr_expect_eq(table_counter(&engine.table, TUPLEBIND_BOUND), 1);
	cr_expect_eq(front_is.passed, 0);
	close(fd);
}
