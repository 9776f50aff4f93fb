/* imgfs between libfuse and the kernel.
 *
 * Loaded with RTLD_GLOBAL before pyfuse3, this stands in front of two functions of libfuse that
 * pyfuse3 calls: one that mounts a session and one that receives its requests. (It does not use
 * fuse_session_custom_io, which since libfuse 3.18.3 is off in most builds.) So passthrough.c and
 * listing.c can take part in FUSE_INIT, listing.c can change a request, and gather.c can answer what
 * needs no thought. Everything else is libfuse's.
 */

#define _GNU_SOURCE
#include "session.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>

int session_fd = -1;
static bool shook_hands;

/* A buffer takes a write of this size, and in front of it what libfuse calls the header. */
enum { MAX_WRITE = 1 << 20, BUFFER = MAX_WRITE + 4096 };

/* With automatic invalidation the kernel asks for a file's attributes before each read that its cache
 * could answer. No inode's bytes ever change: imgfs/nodes.py. (.imgfs/events grows, and the kernel
 * drops what it has of a file when the size changes in any case; uploads are not cached at all.)
 */
void session_accept(const struct init_in *offer, struct init_out *answer)
{
	answer->flags &= ~(uint32_t)AUTO_INVAL_DATA;
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

/* Let libfuse answer FUSE_INIT into a pipe, which takes the place of the kernel's descriptor for that
 * long, and send on what it answered, changed. False if there are no descriptors left.
 *
 * Nobody else uses the descriptor yet: the kernel has told of no inode that could be invalidated, and
 * the interpreter's lock keeps the event loop here.
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
		errno = 0; /* the mount is gone, as the next request will tell */
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

/* The next request for libfuse, as its own function of this name receives it: the size, 0 at the end,
 * or a negative errno, where -EINTR means to wait for another one. pyfuse3 holds the interpreter's lock
 * meanwhile; nobody else needs to wait for the kernel's copying.
 */
int fuse_session_receive_buf(struct fuse_session *session, struct fuse_buf *buffer)
{
	if (!buffer->mem && !(buffer->mem = malloc(BUFFER)))
		return -ENOMEM;
	PyThreadState *thread = PyEval_SaveThread();
	ssize_t got = gather_receive(session_fd, buffer->mem, BUFFER);
	int error = errno;
	PyEval_RestoreThread(thread);
	if (fuse_session_exited(session))
		return 0;
	if (got < 0 && error == ENODEV) {
		fuse_session_exit(session);
		return 0;
	}
	if (got < 0) /* ENOENT: who asked has been interrupted meanwhile */
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

/* Whether FUSE_INIT was answered by way of this; known once a request has come. */
bool imgfs_shook_hands(void)
{
	return shook_hands;
}
