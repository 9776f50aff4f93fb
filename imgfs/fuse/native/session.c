/* Interposes imgfs between libfuse and the kernel.
 *
 * Loaded with RTLD_GLOBAL before pyfuse3, this library overrides four functions of libfuse that
 * pyfuse3 calls: fuse_session_mount and fuse_session_receive_buf here, fuse_reply_open in passthrough.c,
 * and fuse_add_direntry_plus in listing.c. (It does not use fuse_session_custom_io, which most builds
 * disable since libfuse 3.18.3.) This lets passthrough.c and listing.c change the answer to FUSE_INIT,
 * listing.c change a request, gather.c answer writes itself, and direct.c answer requests about nodes
 * that never change. libfuse does everything else.
 */

#define _GNU_SOURCE
#include "session.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

int session_fd = -1;
static bool shook_hands;

/* A buffer holds a write of the largest size and, before it, what libfuse calls the header. */
enum { MAX_WRITE = 1 << 20, BUFFER = MAX_WRITE + 4096 };
enum { PATIENCE = 200 * 1000, TURN = 10 * 1000 * 1000 }; /* nanoseconds */

/* Decline automatic invalidation: with it the kernel sends a GETATTR before each read that its page
 * cache could answer, although the bytes of an inode never change (see imgfs/vfs/nodes.py).
 * .imgfs/events grows, but the kernel drops cached pages whenever the size changes; uploads are opened
 * with direct I/O and never cached.
 *
 * Accept concurrent lookups in one directory, which pyfuse3 does not ask libfuse for: otherwise one that
 * waits for a disk or a network keeps all others there waiting, and nothing can end these.
 */
void session_accept(const struct init_in *offer, struct init_out *answer)
{
	answer->flags &= ~(uint32_t)AUTO_INVAL_DATA;
	answer->flags |= offer->flags & PARALLEL_DIROPS;
	if (answer->max_write > MAX_WRITE)
		answer->max_write = MAX_WRITE;
	passthrough_accept(offer, answer);
	listing_accept(offer, answer);
}

struct init_answer {
	struct out_header out;
	struct init_out init;
	char more[256];
};

/* Answer FUSE_INIT: temporarily replace the session's descriptor with a pipe, let libfuse write its
 * answer there, change the answer and send it to the kernel. Return false if no descriptors are left.
 *
 * Nothing else uses the descriptor yet: the kernel knows no inode that could be invalidated, and this
 * function holds the GIL, so the event loop does not run.
 */
static bool shake_hands(struct fuse_session *session, const struct fuse_buf *request)
{
	int pipe[2], kernel = fcntl(session_fd, F_DUPFD_CLOEXEC, 3);
	if (kernel < 0)
		return false;
	if (pipe2(pipe, O_CLOEXEC | O_NONBLOCK) < 0) {
		close(kernel);
		return false;
	}
	dup3(pipe[1], session_fd, O_CLOEXEC);
	fuse_session_process_buf(session, request);
	dup3(kernel, session_fd, O_CLOEXEC);

	struct init_answer answer;
	struct init_in offer = { 0 };
	ssize_t got = read(pipe[0], &answer, sizeof answer);
	if (request->size >= sizeof(struct in_header) + sizeof offer)
		memcpy(&offer, (char *)request->mem + sizeof(struct in_header), sizeof offer);
	if (got >= (ssize_t)offsetof(struct init_answer, more) && !answer.out.error) {
		session_accept(&offer, &answer.init);
		shook_hands = true;
	}
	if (got > 0 && write(session_fd, &answer, (size_t)got) < 0)
		errno = 0; /* the mount is gone; the next read reports it */
	close(pipe[0]);
	close(pipe[1]);
	close(kernel);
	return true;
}

int fuse_session_mount(struct fuse_session *session, const char *mountpoint)
{
	int (*real)(struct fuse_session *, const char *) = dlsym(RTLD_NEXT, "fuse_session_mount");
	int status = real(session, mountpoint);
	if (status == 0)
		session_fd = fuse_session_fd(session);
	return status;
}

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

/* Return whether another request arrives soon. A program that reads or writes small pieces sends the
 * next one at once; sleeping and being woken on another core would take several times as long.
 */
static bool arrives_soon(int fd)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	int64_t end = now() + PATIENCE;
	do {
		if (poll(&readable, 1, 0) > 0)
			return true;
	} while (now() < end);
	return false;
}

/* Receive the next request that is not answered here; fail with EINTR if there is none now. */
ssize_t session_receive(int fd, char *buffer, size_t size)
{
	int64_t end = now() + TURN; /* then the event loop gets to run */
	do {
		bool answered;
		ssize_t got = gather_receive(fd, buffer, size, &answered);
		if (got < 0 || !(answered || direct_answer(fd, buffer, (size_t)got)))
			return got;
	} while (now() < end && arrives_soon(fd));
	errno = EINTR;
	return -1;
}

/* Receive the next request, with the contract of libfuse's function of this name: return the size, 0
 * at the end, or a negative errno; -EINTR means to wait for another request. pyfuse3 calls this with
 * the GIL held; it is released while the kernel copies, so that other threads can run.
 */
int fuse_session_receive_buf(struct fuse_session *session, struct fuse_buf *buffer)
{
	if (!buffer->mem && !(buffer->mem = malloc(BUFFER)))
		return -ENOMEM;
	PyThreadState *thread = PyEval_SaveThread();
	ssize_t got = session_receive(session_fd, buffer->mem, BUFFER);
	int error = errno;
	PyEval_RestoreThread(thread);
	if (fuse_session_exited(session))
		return 0;
	if (got < 0 && error == ENODEV) {
		fuse_session_exit(session);
		return 0;
	}
	if (got < 0) /* ENOENT: the request was interrupted before it was read */
		return error == ENOENT || error == EAGAIN ? -EINTR : -error;
	if ((size_t)got < sizeof(struct in_header))
		return -EIO;
	buffer->size = (size_t)got;
	buffer->flags = 0;
	const struct in_header *in = buffer->mem;
	if (in->opcode == INIT && shake_hands(session, buffer))
		return -EINTR;
	listing_request(buffer->mem, buffer->size);
	return (int)got;
}

/* Return whether FUSE_INIT was answered by shake_hands; known after the first request. */
bool imgfs_shook_hands(void)
{
	return shook_hands;
}
