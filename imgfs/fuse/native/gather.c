/* Gathers sequential writes and answers them without a call to Python.
 *
 * A file handle with the GATHERED tag names a place. While that place is open, a write that continues
 * the bytes before it and fits is kept and answered at once. Every other request is passed on to
 * libfuse, and its handler first takes the bytes gathered so far. imgfs/fuse/gather.py is the caller.
 */

#include "session.h"

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

/* Return the place that takes this request, or NULL if the request must be passed on. */
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

/* Read a request into `buffer`. The first bytes after HEAD may be stored directly at the end of the
 * last place instead of in the buffer, which saves a copy; `aside` is set to how many are.
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
	struct write_out written = { .size = write->size };
	struct out_header out = { .len = sizeof out + sizeof written, .unique = in->unique };
	struct iovec parts[] = { { &out, sizeof out }, { &written, sizeof written } };
	if (writev(fd, parts, 2) < 0)
		errno = 0; /* the caller was interrupted: nobody waits for the answer */
}

/* Receive the next request; `answered` is set if it was a write that has been answered. */
ssize_t gather_receive(int fd, char *buffer, size_t size, bool *answered)
{
	size_t aside;
	ssize_t got = read_request(fd, buffer, size, &aside);
	struct place *place = got < 0 ? NULL : place_for(buffer, (size_t)got);
	*answered = place;
	if (got >= 0 && aside && (!place || place != last)) {
		memmove(buffer + HEAD + aside, buffer + HEAD, (size_t)got - HEAD - aside);
		memcpy(buffer + HEAD, end_of(last), aside);
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
	return got;
}

/* Gather in place `number` the writes that continue at `offset`; return false if out of memory. */
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

/* Return the gathered bytes and close the place until the next begin. */
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
