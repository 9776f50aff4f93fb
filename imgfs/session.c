/* imgfs between libfuse and the kernel.
 *
 * Loaded with RTLD_GLOBAL before pyfuse3, this stands in front of a function of libfuse: when a
 * session is mounted its input and output go through here. So passthrough.c and listing.c can take
 * part in FUSE_INIT, and gather.c can answer what needs no thought. Everything else is libfuse's.
 */

#include "session.h"

#include <dlfcn.h>

int session_fd = -1;
static uint64_t init_unique;
static struct init_in offer;

static void note_offer(const struct in_header *in, size_t size)
{
	init_unique = in->unique;
	memset(&offer, 0, sizeof offer);
	if (size >= sizeof *in + sizeof offer)
		memcpy(&offer, in + 1, sizeof offer);
}

/* With automatic invalidation the kernel asks for a file's attributes before each read that its cache
 * could answer. No inode's bytes ever change: imgfs/nodes.py. (.imgfs/events grows, and the kernel
 * drops what it has of a file when the size changes in any case; uploads are not cached at all.)
 */
void session_accept(const struct init_in *offer, struct init_out *answer)
{
	answer->flags &= ~(uint32_t)AUTO_INVAL_DATA;
	passthrough_accept(offer, answer);
	listing_accept(offer, answer);
}

static void accept_offer(const struct iovec *iov, int count)
{
	const struct out_header *out = iov[0].iov_base;
	struct init_out answer;
	if (out->unique != init_unique || out->error || count != 2 || iov[1].iov_len < sizeof answer)
		return;
	memcpy(&answer, iov[1].iov_base, sizeof answer);
	session_accept(&offer, &answer);
	memcpy(iov[1].iov_base, &answer, sizeof answer);
	init_unique = 0; /* which no request has */
}

/* libfuse asks for the next request while pyfuse3 holds the interpreter's lock; nobody else needs to
 * wait for the kernel's copying.
 */
static ssize_t receive(int fd, void *buffer, size_t size, void *userdata)
{
	(void)userdata;
	PyThreadState *thread = PyEval_SaveThread();
	ssize_t got = gather_receive(fd, buffer, size);
	int error = errno;
	PyEval_RestoreThread(thread);
	const struct in_header *in = buffer;
	if (got >= (ssize_t)sizeof *in && in->opcode == INIT)
		note_offer(in, (size_t)got);
	if (got > 0)
		listing_request(buffer, (size_t)got);
	errno = error;
	return got;
}

static ssize_t send(int fd, struct iovec *iov, int count, void *userdata)
{
	(void)userdata;
	if (init_unique)
		accept_offer(iov, count);
	listing_answer(iov, count);
	return writev(fd, iov, count);
}

int fuse_session_mount(struct fuse_session *session, const char *mountpoint)
{
	int (*real)(struct fuse_session *, const char *) = dlsym(RTLD_NEXT, "fuse_session_mount");
	const struct fuse_custom_io io = { .writev = send, .read = receive };
	int status = real(session, mountpoint);
	if (status == 0) {
		session_fd = fuse_session_fd(session);
		fuse_session_custom_io(session, &io, session_fd);
	}
	return status;
}
