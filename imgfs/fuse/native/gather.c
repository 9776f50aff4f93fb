/* Writes that follow one another are gathered and answered here, without asking Python.
 *
 * A file handle that carries the tag names a place. While that place is open, a write that begins
 * where the bytes before it ended, and fits, is kept and answered at once. Any other request goes its
 * usual way, and whoever answers it takes what was gathered first. imgfs/gather.py is the other half.
 */

#include "session.h"

#include <poll.h>
#include <time.h>

struct write_in {
	uint64_t fh, offset;
	uint32_t size, write_flags;
	uint64_t lock_owner;
	uint32_t flags, padding;
};
struct write_out {
	uint32_t size, padding;
};
enum { HEAD = sizeof(struct in_header) + sizeof(struct write_in) };
enum { PLACES = 64, ROOM = 2 << 20 };
enum { PATIENCE = 200 * 1000, TURN = 10 * 1000 * 1000 }; /* nanoseconds */

struct place {
	PyObject *bytes; /* NULL: closed */
	uint64_t next;
	size_t filled;
};
static struct place places[PLACES];
static struct place *last = places;

static char *end_of(const struct place *place)
{
	return PyBytes_AS_STRING(place->bytes) + place->filled;
}

/* The place that takes this request, NULL for a request that is to go its way. */
static struct place *place_for(const char *buffer, size_t got)
{
	const struct in_header *in = (const void *)buffer;
	const struct write_in *write = (const void *)(in + 1);
	if (got < HEAD || in->opcode != WRITE || !(write->fh & GATHERED))
		return NULL;
	struct place *place = &places[(write->fh >> SUBJECT_SHIFT & SUBJECT_MASK) % PLACES];
	bool follows = place->bytes && write->offset == place->next && write->size == got - HEAD;
	return follows && write->size <= ROOM - place->filled ? place : NULL;
}

/* A request, whole in `buffer` but for its first bytes after HEAD, which may lie where the last place
 * wants them; how many do is in `aside`.
 */
static ssize_t read_request(int fd, char *buffer, size_t size, size_t *aside)
{
	size_t room = last->bytes ? ROOM - last->filled : 0;
	if (size <= HEAD || !room) {
		*aside = 0;
		return read(fd, buffer, size);
	}
	struct iovec parts[] = {
		{ buffer, HEAD },
		{ end_of(last), room },
		{ buffer + HEAD, size - HEAD },
	};
	ssize_t got = readv(fd, parts, 3);
	*aside = got > HEAD ? (size_t)got - HEAD < room ? (size_t)got - HEAD : room : 0;
	return got;
}

static void answer(int fd, const char *buffer)
{
	const struct in_header *in = (const void *)buffer;
	const struct write_in *write = (const void *)(in + 1);
	struct write_out told = { .size = write->size };
	struct out_header out = { .len = sizeof out + sizeof told, .unique = in->unique };
	struct iovec parts[] = { { &out, sizeof out }, { &told, sizeof told } };
	if (writev(fd, parts, 2) < 0)
		errno = 0; /* who asked is gone */
}

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

/* Whether there is another request soon. Who writes small pieces asks again at once, and to be woken
 * on another core would take several times as long as that.
 */
static bool asked_again(int fd)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	int64_t end = now() + PATIENCE;
	do {
		if (poll(&readable, 1, 0) > 0)
			return true;
	} while (now() < end);
	return false;
}

ssize_t gather_receive(int fd, char *buffer, size_t size)
{
	int64_t end = now() + TURN; /* then the event loop has its own */
	do {
		size_t aside;
		ssize_t got = read_request(fd, buffer, size, &aside);
		if (got < 0)
			return got;
		struct place *place = place_for(buffer, (size_t)got);
		if (!place || place != last) {
			if (aside) {
				memmove(buffer + HEAD + aside, buffer + HEAD, (size_t)got - HEAD - aside);
				memcpy(buffer + HEAD, end_of(last), aside);
			}
		}
		if (!place)
			return got;
		size_t written = (size_t)got - HEAD;
		if (place != last)
			memcpy(end_of(place), buffer + HEAD, written);
		last = place;
		place->filled += written;
		place->next += written;
		answer(fd, buffer);
	} while (now() < end && asked_again(fd));
	errno = EINTR;
	return -1;
}

/* Gather what follows `offset` in place `number`; false when there is no memory for it. */
bool imgfs_gather_begin(int number, uint64_t offset)
{
	struct place *place = &places[number];
	PyObject *bytes = PyBytes_FromStringAndSize(NULL, ROOM);
	if (!bytes)
		PyErr_Clear();
	Py_XDECREF(place->bytes);
	*place = (struct place){ .bytes = bytes, .next = offset };
	return bytes != NULL;
}

/* What was gathered; no more is until the next begin. */
PyObject *imgfs_gather_take(int number)
{
	struct place *place = &places[number];
	PyObject *bytes = place->bytes;
	place->bytes = NULL;
	if (!bytes)
		return PyBytes_FromStringAndSize(NULL, 0);
	_PyBytes_Resize(&bytes, (Py_ssize_t)place->filled);
	return bytes;
}
