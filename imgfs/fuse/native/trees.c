/* Answers requests about the directories of trees that never change, out of their tables.
 *
 * engine/filetree/tree_table.py describes the columns, and imgfs/vfs/keys.py inode numbers. Python
 * adds a tree once it is in memory, and requests about other trees are left to it. Everything here runs
 * in the thread of the event loop.
 */

#include "session.h"

#include <stdlib.h>
#include <sys/stat.h>

enum { GETATTR = 3, READLINK = 5, OPENDIR = 27, RELEASEDIR = 29 };
enum { KEEP_CACHE = 1u << 1, CACHE_DIR = 1u << 3 };
enum { FOREVER = 86400, LARGEST = 1 << 20, DOTS = 2 };
#define TREE (UINT64_C(1) << 61)
#define NODES UINT64_C(0x1fffff)
#define LINKS_SHIFT 53
#define MOST_LINKS 255u
#define WHITED_OUT UINT64_C(0xfffffffffffffffe)

struct attributes {
	uint32_t mode, uid, gid, device;
};
struct attr {
	uint64_t ino, size, blocks, atime, mtime, ctime;
	uint32_t atimensec, mtimensec, ctimensec, mode, nlink, uid, gid, rdev, blksize, flags;
};
struct attr_out {
	uint64_t valid;
	uint32_t valid_nsec, padding;
	struct attr attr;
};
struct entry_out {
	uint64_t nodeid, generation, entry_valid, attr_valid;
	uint32_t entry_valid_nsec, attr_valid_nsec;
	struct attr attr;
};
struct dirent_out {
	uint64_t ino, off;
	uint32_t namelen, type;
};
struct open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};
struct release_in {
	uint64_t fh;
	uint32_t flags, release_flags;
	uint64_t lock_owner;
};

enum { NAMES, NAME_ENDS, FIRST, PLACES, SHARED, ATTRIBUTES, SECONDS, NANOSECONDS, SIZES, TARGETS,
       TARGET_ENDS, LAYERS, LINKED, LINKS, COLUMNS };

struct tree {
	struct tree *next;
	uint64_t number, parent; /* of the root, and of the directory that it is in */
	Py_buffer columns[COLUMNS];
	unsigned opened; /* directories that are open, for which a removed tree stays */
	bool removed;
};

enum { BLOCK = 4096, LISTED = 208 }; /* bytes; LISTED is what an entry takes in a READDIRPLUS */
enum { BUCKETS = 1024 };
static struct tree *buckets[BUCKETS];

#define COLUMN(tree, name, type) ((const type *)(tree)->columns[name].buf)

/* Return the place of the pointer to a tree, which is NULL if there is none. */
static struct tree **link_to(uint64_t number)
{
	struct tree **link = &buckets[(number / (NODES + 1)) % BUCKETS];
	while (*link && (*link)->number != number)
		link = &(*link)->next;
	return link;
}

static struct tree *tree_of(uint64_t inode)
{
	if ((inode & (CONSTANT | TREE)) != (CONSTANT | TREE))
		return NULL;
	struct tree *found = *link_to(inode & ~NODES);
	if (found && (inode & NODES) >= (size_t)found->columns[PLACES].len / sizeof(uint64_t))
		return NULL;
	return found;
}

/* Free a tree; the caller holds the GIL. */
static void drop(struct tree *tree)
{
	*link_to(tree->number) = tree->next;
	for (int column = 0; column < COLUMNS; column++)
		PyBuffer_Release(&tree->columns[column]);
	free(tree);
}

/* -- columns ----------------------------------------------------------------------------------- */

static const char *text(const struct tree *tree, int texts, int ends, uint32_t node, size_t *size)
{
	const uint32_t *end = COLUMN(tree, ends, uint32_t);
	uint32_t start = node ? end[node - 1] : 0;
	*size = end[node] - start;
	return COLUMN(tree, texts, char) + start;
}

static const struct attributes *shared(const struct tree *tree, uint32_t node)
{
	return COLUMN(tree, SHARED, struct attributes) + COLUMN(tree, ATTRIBUTES, uint32_t)[node];
}

static uint32_t links(const struct tree *tree, uint32_t node)
{
	const uint32_t *linked = COLUMN(tree, LINKED, uint32_t);
	size_t low = 0, high = (size_t)tree->columns[LINKED].len / sizeof *linked;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (linked[middle] == node)
			return COLUMN(tree, LINKS, uint32_t)[middle];
		if (linked[middle] < node)
			low = middle + 1;
		else
			high = middle;
	}
	return 1;
}

static uint64_t number(const struct tree *tree, uint32_t node, uint32_t mode, uint32_t count)
{
	uint64_t place = COLUMN(tree, PLACES, uint64_t)[node];
	if (S_ISDIR(mode) || place >= WHITED_OUT || (!S_ISREG(mode) && count == 1))
		return tree->number | node;
	uint64_t shown = count < MOST_LINKS ? count : MOST_LINKS;
	return COLUMN(tree, LAYERS, uint64_t)[place >> 32] | shown << LINKS_SHIFT | (uint32_t)place;
}

/* Return the block size of a directory, for which C libraries make room when they list it: enough for
 * one READDIRPLUS, since the kernel asks for attributes in the first request only.
 */
static uint32_t block_size(const struct tree *tree, uint32_t node)
{
	const uint32_t *first = COLUMN(tree, FIRST, uint32_t) + node;
	uint32_t size = BLOCK;
	while (size < LARGEST && size / LISTED < first[1] - first[0])
		size *= 2;
	return size;
}

static void fill(const struct tree *tree, uint32_t node, struct attr *attr)
{
	const struct attributes *own = shared(tree, node);
	bool is_directory = S_ISDIR(own->mode);
	uint32_t count = is_directory ? 1 : links(tree, node);
	size_t size = 0;
	if (S_ISREG(own->mode))
		size = (size_t)COLUMN(tree, SIZES, int64_t)[node];
	else if (S_ISLNK(own->mode))
		text(tree, TARGETS, TARGET_ENDS, node, &size);
	uint64_t seconds = (uint64_t)COLUMN(tree, SECONDS, int64_t)[node];
	uint32_t rest = COLUMN(tree, NANOSECONDS, uint32_t)[node];
	*attr = (struct attr){
		.ino = number(tree, node, own->mode, count),
		.size = size, .blocks = (size + 511) / 512,
		.atime = seconds, .mtime = seconds, .ctime = seconds,
		.atimensec = rest, .mtimensec = rest, .ctimensec = rest,
		.mode = own->mode, .nlink = count, .uid = own->uid, .gid = own->gid,
		.rdev = own->device, .blksize = is_directory ? block_size(tree, node) : BLOCK,
	};
}

static void fill_entry(const struct tree *tree, uint32_t node, struct entry_out *entry)
{
	*entry = (struct entry_out){ .entry_valid = FOREVER, .attr_valid = FOREVER };
	fill(tree, node, &entry->attr);
	entry->nodeid = entry->attr.ino;
}

/* -- answers ----------------------------------------------------------------------------------- */

static bool look_up(int fd, const struct tree *tree, const struct in_header *in, size_t size)
{
	const char *wanted = (const char *)(in + 1);
	size_t length = strnlen(wanted, size - sizeof *in);
	const uint32_t *first = COLUMN(tree, FIRST, uint32_t) + (in->nodeid & NODES);
	uint32_t low = first[0], high = first[1];
	struct entry_out entry = { .entry_valid = FOREVER };
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		size_t found;
		const char *name = text(tree, NAMES, NAME_ENDS, middle, &found);
		int order = memcmp(name, wanted, found < length ? found : length);
		if (!order && found == length) {
			fill_entry(tree, middle, &entry);
			break;
		}
		if (order < 0 || (!order && found < length))
			low = middle + 1;
		else
			high = middle;
	}
	direct_send(fd, in->unique, 0, &entry, sizeof entry);
	return true;
}

static bool get_attributes(int fd, const struct tree *tree, const struct in_header *in)
{
	struct attr_out out = { .valid = FOREVER };
	fill(tree, in->nodeid & NODES, &out.attr);
	direct_send(fd, in->unique, 0, &out, sizeof out);
	return true;
}

static bool read_link(int fd, const struct tree *tree, const struct in_header *in)
{
	uint32_t node = in->nodeid & NODES;
	if (!S_ISLNK(shared(tree, node)->mode))
		return false;
	size_t size;
	const char *target = text(tree, TARGETS, TARGET_ENDS, node, &size);
	direct_send(fd, in->unique, 0, target, size);
	return true;
}

static bool open_directory(int fd, struct tree *tree, const struct in_header *in)
{
	if (!S_ISDIR(shared(tree, in->nodeid & NODES)->mode))
		return false;
	struct open_out out = { .fh = LASTING, .open_flags = KEEP_CACHE | CACHE_DIR };
	if (direct_send(fd, in->unique, 0, &out, sizeof out))
		tree->opened++;
	return true;
}

/* Return the directory in which a node is. */
static uint64_t parent(const struct tree *tree, uint32_t node)
{
	if (!node)
		return tree->parent;
	const uint32_t *first = COLUMN(tree, FIRST, uint32_t);
	uint32_t low = 0, high = node;
	while (low < high) { /* find the last directory whose first child is not behind the node */
		uint32_t middle = low + (high - low + 1) / 2;
		if (first[middle] <= node)
			low = middle;
		else
			high = middle - 1;
	}
	return tree->number | low;
}

static size_t put_name(char *to, uint64_t inode, uint64_t next, uint32_t mode, const char *name,
		       size_t size)
{
	size_t padded = (size + 7) & ~(size_t)7;
	struct dirent_out entry = { inode, next, (uint32_t)size, (mode & S_IFMT) >> 12 };
	memcpy(to, &entry, sizeof entry);
	memcpy(to + sizeof entry, name, size);
	memset(to + sizeof entry + size, 0, padded - size);
	return sizeof entry + padded;
}

static bool list(int fd, const struct tree *tree, const struct in_header *in)
{
	static char reply[LARGEST];
	const struct read_in *read = (const void *)(in + 1);
	uint32_t node = in->nodeid & NODES;
	const uint32_t *first = COLUMN(tree, FIRST, uint32_t) + node;
	uint64_t count = DOTS + first[1] - first[0];
	size_t room = read->size < LARGEST ? read->size : LARGEST, used = 0;
	size_t before = in->opcode == READDIRPLUS ? sizeof(struct entry_out) : 0;
	for (uint64_t place = read->offset; place < count; place++) {
		struct entry_out entry = { 0 }; /* of dots, for which the kernel counts no lookup */
		const char *name = "..";
		size_t size = (size_t)place + 1;
		if (place < DOTS) {
			entry.attr.ino = place ? parent(tree, node) : in->nodeid;
			entry.attr.mode = S_IFDIR;
		} else {
			uint32_t child = first[0] + (uint32_t)(place - DOTS);
			name = text(tree, NAMES, NAME_ENDS, child, &size);
			fill_entry(tree, child, &entry);
		}
		if (used + before + sizeof(struct dirent_out) + size + 7 > room)
			break;
		memcpy(reply + used, &entry, before);
		used += before;
		used += put_name(reply + used, entry.attr.ino, place + 1, entry.attr.mode, name, size);
	}
	direct_send(fd, in->unique, 0, reply, used);
	return true;
}

static bool close_directory(int fd, struct tree *tree, const struct in_header *in)
{
	if (!--tree->opened && tree->removed) {
		PyGILState_STATE state = PyGILState_Ensure();
		drop(tree);
		PyGILState_Release(state);
	}
	direct_send(fd, in->unique, 0, NULL, 0);
	return true;
}

bool trees_answer(int fd, const char *buffer, size_t size)
{
	const struct in_header *in = (const void *)buffer;
	struct tree *tree = size < sizeof *in ? NULL : tree_of(in->nodeid);
	if (!tree)
		return false;
	bool is_handle = size >= sizeof *in + sizeof(struct release_in) &&
			 ((const struct release_in *)(in + 1))->fh == LASTING;
	switch (in->opcode) {
	case LOOKUP:
		return look_up(fd, tree, in, size);
	case GETATTR:
		return get_attributes(fd, tree, in);
	case READLINK:
		return read_link(fd, tree, in);
	case OPENDIR:
		return open_directory(fd, tree, in);
	case READDIR:
	case READDIRPLUS:
		return is_handle && size >= sizeof *in + sizeof(struct read_in) && list(fd, tree, in);
	case RELEASEDIR:
		return is_handle && close_directory(fd, tree, in);
	default:
		return false;
	}
}

/* -- for Python -------------------------------------------------------------------------------- */

/* Answer requests about a tree from now on. `arguments` is a tuple: the numbers of the root and of the
 * directory that it is in, and a buffer for each column in the order of the enum. Raise TypeError or
 * MemoryError.
 */
PyObject *imgfs_tree_add(PyObject *arguments)
{
	struct tree *tree = calloc(1, sizeof *tree);
	if (!tree)
		return PyErr_NoMemory();
	Py_buffer *c = tree->columns;
	unsigned long long number, parent;
	if (!PyArg_ParseTuple(arguments, "KKy*y*y*y*y*y*y*y*y*y*y*y*y*y*", &number, &parent, c, c + 1,
			      c + 2, c + 3, c + 4, c + 5, c + 6, c + 7, c + 8, c + 9, c + 10, c + 11,
			      c + 12, c + 13)) {
		free(tree);
		return NULL;
	}
	struct tree **link = link_to(number), *old = *link;
	if (old) { /* it is still there, since a directory is open */
		for (int column = 0; column < COLUMNS; column++)
			PyBuffer_Release(&c[column]);
		free(tree);
		old->removed = false;
		Py_RETURN_NONE;
	}
	tree->number = number;
	tree->parent = parent;
	*link = tree;
	Py_RETURN_NONE;
}

/* Leave requests about a tree to Python, once none of its directories is open. */
void imgfs_tree_remove(uint64_t number)
{
	struct tree *tree = *link_to(number);
	if (!tree)
		return;
	tree->removed = true;
	if (!tree->opened)
		drop(tree);
}
