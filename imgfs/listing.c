/* Names alone, where nobody asks for more, under a pyfuse3 that knows READDIRPLUS only.
 *
 * The kernel is told to use READDIRPLUS as long as what is listed is looked at as well. A READDIR
 * becomes a READDIRPLUS whose handle carries a tag, so that no lookup is counted for it, and in the
 * answer all but the names is left out.
 */

#include "session.h"

struct read_in {
	uint64_t fh, offset;
	uint32_t size, read_flags;
	uint64_t lock_owner;
	uint32_t flags, padding;
};
struct entry {
	uint64_t ino, off;
	uint32_t namelen, type;
	char name[];
};
enum { ATTRIBUTES = 128 }; /* bytes in front of an entry with attributes */
enum { MORE = 4 };	   /* times as many bytes an entry takes with them, and more with short names */
enum { DO_READDIRPLUS = 1u << 13, READDIRPLUS_AUTO = 1u << 14 };

/* pyfuse3 answers before it takes the next request: the handler does not wait for anything. */
static uint64_t plain_unique;
static size_t plain_size;

void listing_accept(const struct init_in *offer, struct init_out *answer)
{
	if (answer->flags & DO_READDIRPLUS)
		answer->flags |= offer->flags & READDIRPLUS_AUTO;
}

void listing_request(char *buffer, size_t size)
{
	struct in_header *in = (void *)buffer;
	struct read_in *read = (void *)(in + 1);
	if (size < sizeof *in + sizeof *read || in->opcode != READDIR)
		return;
	plain_unique = in->unique;
	plain_size = read->size;
	in->opcode = READDIRPLUS;
	read->fh |= PLAIN;
	read->size *= MORE;
}

static size_t padded(size_t size)
{
	return (size + 7) & ~(size_t)7;
}

void listing_answer(struct iovec *iov, int count)
{
	struct out_header *out = iov[0].iov_base;
	if (out->unique != plain_unique || !plain_unique)
		return;
	plain_unique = 0;
	if (out->error || count != 2)
		return;
	char *data = iov[1].iov_base;
	size_t from = 0, to = 0;
	while (from + ATTRIBUTES + sizeof(struct entry) <= iov[1].iov_len) {
		const struct entry *entry = (const void *)(data + from + ATTRIBUTES);
		size_t size = sizeof *entry + entry->namelen;
		if (to + padded(size) > plain_size)
			break; /* the kernel goes on behind the last one that it gets */
		from += padded(ATTRIBUTES + size);
		memmove(data + to, entry, padded(size));
		to += padded(size);
	}
	iov[1].iov_len = to;
	out->len = (uint32_t)(sizeof *out + to);
}
