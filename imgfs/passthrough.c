/* Kernel passthrough (Linux 6.9) under a libfuse and a pyfuse3 that do not know it.
 *
 * Loaded with RTLD_GLOBAL before pyfuse3, this stands in front of two functions of libfuse: when a
 * session is mounted its input and output go through here, so that FUSE_INIT can be answered with
 * FUSE_PASSTHROUGH; and an open whose file handle carries the tag is answered with the backing ID
 * that the handle holds. Everything else is libfuse's. imgfs/passthrough.py is the other half.
 */

#define _GNU_SOURCE
#define FUSE_USE_VERSION 314

#include <dlfcn.h>
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

/* The kernel's protocol, of which <linux/fuse.h> may be too old to tell. */
struct in_header {
	uint32_t len, opcode;
	uint64_t unique, nodeid;
	uint32_t uid, gid, pid, extensions;
};
struct init_in {
	uint32_t major, minor, max_readahead, flags, flags2;
};
struct out_header {
	uint32_t len;
	int32_t error;
	uint64_t unique;
};
struct init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
};
struct open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};
struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
enum { INIT = 26 };
enum { INIT_EXT = 1u << 30, PASSTHROUGH_2 = 1u << (37 - 32) };
enum { OPEN_NOFLUSH = 1u << 5, OPEN_PASSTHROUGH = 1u << 7 };
#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

/* A file handle: the tag, a backing ID of 22 bits, the number by which imgfs knows it. */
#define TAG (UINT64_C(1) << 62)
#define ID_SHIFT 40
#define ID_MASK UINT64_C(0x3fffff)

/* pyfuse3 has one session a process. */
static int session_fd = -1;
static uint64_t init_unique;
static bool offered, agreed;

static ssize_t receive(int fd, void *buffer, size_t size, void *userdata)
{
	(void)userdata;
	ssize_t got = read(fd, buffer, size);
	const struct in_header *in = buffer;
	if (got >= (ssize_t)sizeof *in && in->opcode == INIT) {
		const struct init_in *init = (const void *)(in + 1);
		init_unique = in->unique;
		offered = got >= (ssize_t)(sizeof *in + sizeof *init) && init->flags & INIT_EXT &&
			  init->flags2 & PASSTHROUGH_2;
	}
	return got;
}

static ssize_t send(int fd, struct iovec *iov, int count, void *userdata)
{
	(void)userdata;
	const struct out_header *out = iov[0].iov_base;
	struct init_out init;
	if (offered && !agreed && out->unique == init_unique && !out->error && count == 2 &&
	    iov[1].iov_len >= sizeof init) {
		memcpy(&init, iov[1].iov_base, sizeof init);
		init.flags |= INIT_EXT;
		init.flags2 |= PASSTHROUGH_2;
		init.max_stack_depth = 1; /* an overlay may lie on top of the mount */
		memcpy(iov[1].iov_base, &init, sizeof init);
		agreed = true;
	}
	return writev(fd, iov, count);
}

int fuse_session_mount(struct fuse_session *session, const char *mountpoint)
{
	int (*real)(struct fuse_session *, const char *) = dlsym(RTLD_NEXT, "fuse_session_mount");
	const struct fuse_custom_io io = { .writev = send, .read = receive };
	int status = real(session, mountpoint);
	if (status == 0) {
		session_fd = fuse_session_fd(session);
		offered = agreed = false;
		fuse_session_custom_io(session, &io, session_fd);
	}
	return status;
}

int fuse_reply_open(fuse_req_t request, const struct fuse_file_info *info)
{
	if (info->fh & TAG) {
		struct open_out out = {
			.fh = info->fh,
			.open_flags = OPEN_PASSTHROUGH | OPEN_NOFLUSH,
			.backing_id = (int32_t)(info->fh >> ID_SHIFT & ID_MASK),
		};
		return fuse_reply_buf(request, (const char *)&out, sizeof out);
	}
	int (*real)(fuse_req_t, const struct fuse_file_info *) =
		dlsym(RTLD_NEXT, "fuse_reply_open");
	return real(request, info);
}

/* Whether the kernel and we have agreed on it; known once a request has come. */
bool imgfs_passthrough_agreed(void)
{
	return agreed;
}

/* The kernel's ID for an open file, or a negative errno. */
int imgfs_backing_open(int fd)
{
	struct backing_map map = { .fd = fd };
	int id = ioctl(session_fd, BACKING_OPEN, &map);
	return id < 0 ? -errno : id;
}

void imgfs_backing_close(int id)
{
	uint32_t argument = (uint32_t)id;
	ioctl(session_fd, BACKING_CLOSE, &argument);
}
