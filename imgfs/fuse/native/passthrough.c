/* Kernel passthrough (Linux 6.9), which pyfuse3 and libfuse before 3.17 do not support.
 *
 * FUSE_PASSTHROUGH is accepted in the answer to FUSE_INIT if it is wanted and offered. An open whose
 * file handle has the BACKED tag is answered with the backing ID in that handle.
 * imgfs/fuse/passthrough.py is the caller.
 */

#define _GNU_SOURCE
#include "session.h"

#include <dlfcn.h>
#include <sys/ioctl.h>

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
enum { PASSTHROUGH_2 = 1u << (37 - 32) };
enum { OPEN_NOFLUSH = 1u << 5, OPEN_PASSTHROUGH = 1u << 7 };
#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

static bool wanted, agreed;

void passthrough_accept(const struct init_in *offer, struct init_out *answer)
{
	agreed = wanted && offer->flags & INIT_EXT && offer->flags2 & PASSTHROUGH_2;
	if (agreed) {
		answer->flags |= INIT_EXT;
		answer->flags2 |= PASSTHROUGH_2;
		answer->max_stack_depth = 1; /* an overlay may lie on top of the mount */
	}
}

int fuse_reply_open(fuse_req_t request, const struct fuse_file_info *info)
{
	if (info->fh & BACKED) {
		struct open_out out = {
			.fh = info->fh,
			.open_flags = OPEN_PASSTHROUGH | OPEN_NOFLUSH,
			.backing_id = (int32_t)(info->fh >> SUBJECT_SHIFT & SUBJECT_MASK),
		};
		return fuse_reply_buf(request, (const char *)&out, sizeof out);
	}
	int (*real)(fuse_req_t, const struct fuse_file_info *) =
		dlsym(RTLD_NEXT, "fuse_reply_open");
	struct fuse_file_info changed = *info;
	changed.noflush = !info->direct_io; /* only the close of an upload has anything to say */
	if (info->fh & LASTING && !(info->fh & GATHERED))
		changed.cache_readdir = changed.keep_cache = 1;
	return real(request, &changed);
}

/* Request passthrough. Call this before the mount. */
void imgfs_passthrough_want(void)
{
	wanted = true;
}

/* Return whether the kernel offered passthrough and it was accepted; known after the first request. */
bool imgfs_passthrough_agreed(void)
{
	return agreed;
}

/* Register an open file with the kernel; return its backing ID or a negative errno. */
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
