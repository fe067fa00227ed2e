/*
 * listener.so: a preload for the test programs of libsoup's packages, with and without tuplebind:
 * mends a race of theirs.
 *
 * soup_test_server_get_uri() has a listener added by the server's thread, and waits for it with a
 * mutex and a condition on its own stack. It does not wait when the URI is there already:
 * add_listener_in_thread() stores that before it takes the mutex. The thread then locks whatever is
 * left where the mutex was, and in many cases stays there for ever: so the server never answers (a
 * quarter of the runs of server-test on two cores), or the stack of the test is written to.
 * (libsoup 2.4, 3.2; later versions store it under the mutex.)
 *
 * Here the function runs as a whole in the server's thread: with the thread's main loop out of
 * sight it adds the listener itself. What waits for it does so until its thread has let go of the
 * mutex.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* Of GLib, as far as it is needed; other programs that the tests start have none of it. */
#define MAYBE __attribute__((weak)) extern
MAYBE void *g_object_get_data(void *object, const char *key);
MAYBE void g_object_set_data(void *object, const char *key, void *data);
MAYBE void *g_main_loop_get_context(void *loop);
MAYBE void *g_idle_source_new(void);
MAYBE void g_source_set_priority(void *source, int priority);
MAYBE void g_source_set_callback(
	void *source, int (*function)(void *), void *data, void (*notify)(void *));
MAYBE unsigned g_source_attach(void *source, void *context);
MAYBE void g_source_unref(void *source);

typedef void *get_uri(void *server, const char *scheme, const char *host);
__attribute__((visibility("default"))) get_uri soup_test_server_get_uri;

static const char main_loop[] = "GMainLoop"; /* where libsoup's test-utils.c keeps it */

struct request {
	void *server, *loop, *uri;
	const char *scheme, *host;
	get_uri *next;
	bool done;
	pthread_mutex_t mutex;
	pthread_cond_t condition;
};

static int in_server_thread(void *data)
{
	struct request *request = data;

	g_object_set_data(request->server, main_loop, NULL);
	request->uri = request->next(request->server, request->scheme, request->host);
	g_object_set_data(request->server, main_loop, request->loop);
	pthread_mutex_lock(&request->mutex);
	request->done = true;
	pthread_cond_signal(&request->condition);
	pthread_mutex_unlock(&request->mutex);
	return 0; /* not again */
}

void *soup_test_server_get_uri(void *server, const char *scheme, const char *host)
{
	struct request request = {
		.server = server,
		.scheme = scheme,
		.host = host,
		.loop = g_object_get_data(server, main_loop),
		.next = (get_uri *)dlsym(RTLD_NEXT, "soup_test_server_get_uri"),
		.mutex = PTHREAD_MUTEX_INITIALIZER,
		.condition = PTHREAD_COND_INITIALIZER,
	};
	void *source;

	if (request.loop == NULL)
		return request.next(server, scheme, host);
	source = g_idle_source_new();
	g_source_set_priority(source, 0);
	g_source_set_callback(source, in_server_thread, &request, NULL);
	g_source_attach(source, g_main_loop_get_context(request.loop));
	g_source_unref(source);
	pthread_mutex_lock(&request.mutex);
	while (!request.done)
		pthread_cond_wait(&request.condition, &request.mutex);
	pthread_mutex_unlock(&request.mutex);
	return request.uri;
}
