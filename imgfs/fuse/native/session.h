/* What the parts in C share: the session, and the kernel's protocol as far as they need it, of which
 * <linux/fuse.h> may be too old to tell.
 */

#pragma once

#define PY_SSIZE_T_CLEAN
#define FUSE_USE_VERSION 314

#include <Python.h>
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

struct in_header {
	uint32_t len, opcode;
	uint64_t unique, nodeid;
	uint32_t uid, gid, pid, extensions;
};
struct out_header {
	uint32_t len;
	int32_t error;
	uint64_t unique;
};
struct init_in {
	uint32_t major, minor, max_readahead, flags, flags2;
};
struct init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
};
enum { WRITE = 16, INIT = 26, READDIR = 28, READDIRPLUS = 44 };
enum { AUTO_INVAL_DATA = 1u << 12, INIT_EXT = 1u << 30 };

/* A file handle: a tag, what the tag is about, the number by which imgfs knows the handle. */
#define BACKED (UINT64_C(1) << 62)
#define GATHERED (UINT64_C(1) << 61)
#define PLAIN (UINT64_C(1) << 60)
#define SUBJECT_SHIFT 40
#define SUBJECT_MASK UINT64_C(0x1fffff)

/* session.c: pyfuse3 has one session a process. */
extern int session_fd;

/* What is accepted of the kernel's offer in FUSE_INIT: all of it, and each part's. */
void session_accept(const struct init_in *offer, struct init_out *answer);
void passthrough_accept(const struct init_in *offer, struct init_out *answer);
void listing_accept(const struct init_in *offer, struct init_out *answer);

/* listing.c: a request on its way. */
void listing_request(char *buffer, size_t size);

/* gather.c: the next request that is not answered there; EINTR when there is none for now. */
ssize_t gather_receive(int fd, char *buffer, size_t size);
