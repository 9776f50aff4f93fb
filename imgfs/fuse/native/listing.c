/* Answers READDIR (names without attributes) with a pyfuse3 that implements only READDIRPLUS.
 *
 * FUSE_READDIRPLUS_AUTO is accepted, so the kernel uses READDIRPLUS only while a program also looks up
 * the names it lists. A READDIR request is changed into a READDIRPLUS whose handle has the PLAIN tag,
 * so that imgfs counts no lookup for it, and entries without attributes are put into its answer.
 */

#define _GNU_SOURCE
#include "session.h"

#include <dlfcn.h>

enum { DO_READDIRPLUS = 1u << 13, READDIRPLUS_AUTO = 1u << 14 };

/* True if the entries that are added are those of a READDIR. */
static bool plain;

void listing_accept(const struct init_in *offer, struct init_out *answer)
{
	if (answer->flags & DO_READDIRPLUS)
		answer->flags |= offer->flags & READDIRPLUS_AUTO;
}

void listing_request(char *buffer, size_t size)
{
	struct in_header *in = (void *)buffer;
	struct read_in *read = (void *)(in + 1);
	if (size >= sizeof *in + sizeof *read && in->opcode == READDIR) {
		in->opcode = READDIRPLUS;
		read->fh |= PLAIN;
	}
}

/* Add entries to the answer to a request with this handle from now on; its handler awaits nothing until
 * it has added them.
 */
void imgfs_listing_begin(uint64_t handle)
{
	plain = handle & PLAIN;
}

size_t fuse_add_direntry_plus(fuse_req_t request, char *buffer, size_t size, const char *name,
			      const struct fuse_entry_param *entry, off_t next)
{
	if (plain)
		return fuse_add_direntry(request, buffer, size, name, &entry->attr, next);
	static size_t (*real)(fuse_req_t, char *, size_t, const char *,
			      const struct fuse_entry_param *, off_t);
	if (!real)
		real = dlsym(RTLD_NEXT, "fuse_add_direntry_plus");
	return real(request, buffer, size, name, entry, next);
}
