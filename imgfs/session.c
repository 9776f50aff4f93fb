/* imgfs between libfuse and the kernel.
 *
 * Loaded with RTLD_GLOBAL before pyfuse3, this stands in front of a function of libfuse: when a
 * session is mounted its input and output go through here. So passthrough.c can take part in
 * FUSE_INIT, and gather.c can answer what needs no thought. Everything else is libfuse's.
 */

#include "session.h"

#include <dlfcn.h>

int session_fd = -1;

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
		passthrough_offered(in, (size_t)got);
	errno = error;
	return got;
}

static ssize_t send(int fd, struct iovec *iov, int count, void *userdata)
{
	(void)userdata;
	passthrough_accept(iov, count);
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
