/* Declarations shared by the native library: the session, and the FUSE protocol structures it uses,
 * which an old <linux/fuse.h> may lack.
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
struct read_in {
	uint64_t fh, offset;
	uint32_t size, read_flags;
	uint64_t lock_owner;
	uint32_t flags, padding;
};
enum { LOOKUP = 1, WRITE = 16, INIT = 26, READDIR = 28, READDIRPLUS = 44 };
enum { AUTO_INVAL_DATA = 1u << 12, PARALLEL_DIROPS = 1u << 18, INIT_EXT = 1u << 30 };

/* A file handle has three fields: a tag, the subject of the tag (a backing ID or a place), and the
 * number of the handle in imgfs.
 */
#define BACKED (UINT64_C(1) << 62)
#define GATHERED (UINT64_C(1) << 61)
#define PLAIN (UINT64_C(1) << 60)
#define LASTING (UINT64_C(1) << 59)
#define SUBJECT_SHIFT 40
#define SUBJECT_MASK UINT64_C(0x1fffff)

/* Marks the inode number of a node that never changes. */
#define CONSTANT (UINT64_C(1) << 62)

/* session.c: the descriptor of the session; pyfuse3 has one per process. */
extern int session_fd;

/* Change the answer to the kernel's offer in FUSE_INIT; session_accept calls the other two. */
void session_accept(const struct init_in *offer, struct init_out *answer);
void passthrough_accept(const struct init_in *offer, struct init_out *answer);
void listing_accept(const struct init_in *offer, struct init_out *answer);

/* listing.c: change a READDIR request before libfuse processes it. */
void listing_request(char *buffer, size_t size);

/* gather.c: receive the next request; `answered` is set if it was a write that has been answered. */
ssize_t gather_receive(int fd, char *buffer, size_t size, bool *answered);

/* direct.c: return whether a request has been answered; send an answer. */
bool direct_answer(int fd, const char *buffer, size_t size);
bool direct_send(int fd, uint64_t request, int error, const void *body, size_t size);

/* trees.c: return whether a request about a tree has been answered. */
bool trees_answer(int fd, const char *buffer, size_t size);
