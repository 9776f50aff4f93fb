/* SHA-256 (FIPS 180-4) of one stream of bytes, or of two streams at a time.
 *
 * One round waits for the result of the round before it, so that one stream leaves half of the units
 * for SHA of a core idle. Two streams that are hashed in turns, an instruction of each, take about as
 * long as one. The module can be imported on x86-64 processors with the SHA extensions only.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if defined(__x86_64__) && defined(__GNUC__)

#include <cpuid.h>
#include <immintrin.h>

#define WITH_SHA __attribute__((target("sha,sse4.1,ssse3")))
enum { BLOCK = 64, DIGEST = 32, WORTH_IT = 2048 };

struct state {
	uint32_t words[8];      /* as the instructions want them: ABEF, CDGH */
	uint64_t size;          /* the bytes so far */
	uint8_t held[BLOCK];    /* the last size % BLOCK of them */
};

typedef struct {
	PyObject_HEAD
	struct state state;
} Hash;

static const uint32_t constants[64] __attribute__((aligned(16))) = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static const struct state empty = {
	.words = {0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667, 0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372}};

/* The place in `words` of each word of a digest. */
static const uint8_t places[8] = {3, 2, 7, 6, 1, 0, 5, 4};

/* Hash `blocks` blocks of each of `LANES` streams. It is a macro, since the compiler keeps in registers
 * only what it can unroll.
 */
#define DEFINE_COMPRESS(NAME, LANES)                                                                   \
	WITH_SHA static void NAME(struct state *const *states, const uint8_t *const *data, size_t blocks)  \
	{                                                                                                  \
		const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);             \
		__m128i abef[LANES], cdgh[LANES];                                                              \
		for (int i = 0; i < LANES; i++) {                                                              \
			abef[i] = _mm_loadu_si128((const __m128i *)states[i]->words);                              \
			cdgh[i] = _mm_loadu_si128((const __m128i *)(states[i]->words + 4));                        \
		}                                                                                              \
		for (size_t block = 0; block < blocks; block++) {                                              \
			__m128i before[LANES][2], words[LANES][4];                                                 \
			for (int i = 0; i < LANES; i++) {                                                          \
				const __m128i *from = (const __m128i *)(data[i] + block * BLOCK);                      \
				before[i][0] = abef[i];                                                                \
				before[i][1] = cdgh[i];                                                                \
				for (int j = 0; j < 4; j++)                                                            \
					words[i][j] = _mm_shuffle_epi8(_mm_loadu_si128(from + j), big_endian);             \
			}                                                                                          \
			_Pragma("GCC unroll 16") for (int round = 0; round < 16; round++)                          \
			{                                                                                          \
				const __m128i added = _mm_load_si128((const __m128i *)constants + round);              \
				_Pragma("GCC unroll 2") for (int i = 0; i < LANES; i++)                                \
				{                                                                                      \
					__m128i *w = words[i], *next = w + (round & 3);                                    \
					__m128i sum = _mm_add_epi32(*next, added);                                         \
					cdgh[i] = _mm_sha256rnds2_epu32(cdgh[i], abef[i], sum);                            \
					abef[i] = _mm_sha256rnds2_epu32(abef[i], cdgh[i], _mm_shuffle_epi32(sum, 0x0e));   \
					if (round < 12) {                                                                  \
						__m128i w1 = w[(round + 1) & 3], w2 = w[(round + 2) & 3], w3 = w[(round + 3) & 3]; \
						__m128i first = _mm_sha256msg1_epu32(*next, w1);                               \
						first = _mm_add_epi32(first, _mm_alignr_epi8(w3, w2, 4));                      \
						*next = _mm_sha256msg2_epu32(first, w3);                                       \
					}                                                                                  \
				}                                                                                      \
			}                                                                                          \
			for (int i = 0; i < LANES; i++) {                                                          \
				abef[i] = _mm_add_epi32(abef[i], before[i][0]);                                        \
				cdgh[i] = _mm_add_epi32(cdgh[i], before[i][1]);                                        \
			}                                                                                          \
		}                                                                                              \
		for (int i = 0; i < LANES; i++) {                                                              \
			_mm_storeu_si128((__m128i *)states[i]->words, abef[i]);                                    \
			_mm_storeu_si128((__m128i *)(states[i]->words + 4), cdgh[i]);                              \
		}                                                                                              \
	}

DEFINE_COMPRESS(compress_one, 1)
DEFINE_COMPRESS(compress_two, 2)

static int has_avx;

/* isal leaves bits in the upper halves of the AVX registers, and with them the instructions for SHA,
 * which know the lower halves only, take more than twice as long.
 */
__attribute__((target("avx"))) static void clear_upper_halves(void)
{
	if (has_avx)
		_mm256_zeroupper();
}

/* Take bytes until a whole number of blocks is hashed; return how many were taken. */
static size_t complete_block(struct state *state, const uint8_t *data, size_t size)
{
	size_t held = state->size % BLOCK;
	if (!held)
		return 0;
	size_t taken = Py_MIN(BLOCK - held, size);
	memcpy(state->held + held, data, taken);
	state->size += taken;
	if (held + taken == BLOCK)
		compress_one(&state, &(const uint8_t *){state->held}, 1);
	return taken;
}

static void update(struct state *state, const uint8_t *data, size_t size)
{
	size_t taken = complete_block(state, data, size), blocks = (size - taken) / BLOCK;
	data += taken;
	size -= taken;
	compress_one(&state, &data, blocks);
	memcpy(state->held, data + blocks * BLOCK, size % BLOCK);
	state->size += size;
}

static void update_two_states(struct state *const *states, const Py_buffer *buffers)
{
	const uint8_t *data[2];
	size_t sizes[2];
	for (int i = 0; i < 2; i++) {
		size_t taken = complete_block(states[i], buffers[i].buf, buffers[i].len);
		data[i] = (const uint8_t *)buffers[i].buf + taken;
		sizes[i] = buffers[i].len - taken;
	}
	size_t both = Py_MIN(sizes[0], sizes[1]) / BLOCK;
	compress_two(states, data, both);
	for (int i = 0; i < 2; i++) {
		states[i]->size += both * BLOCK;
		update(states[i], data[i] + both * BLOCK, sizes[i] - both * BLOCK);
	}
}

static void digest(const struct state *state, uint8_t *digest)
{
	struct state last = *state;
	uint8_t padding[BLOCK + 8] = {0x80};
	size_t length = (BLOCK - 8 - 1 - last.size % BLOCK + BLOCK) % BLOCK + 1;
	uint64_t bits = __builtin_bswap64(last.size * 8);
	memcpy(padding + length, &bits, sizeof bits);
	update(&last, padding, length + sizeof bits);
	for (int i = 0; i < 8; i++) {
		uint32_t word = __builtin_bswap32(last.words[places[i]]);
		memcpy(digest + 4 * i, &word, sizeof word);
	}
}

static PyObject *hash_new(PyTypeObject *type, PyObject *arguments, PyObject *names)
{
	static char *none[] = {NULL};
	if (!PyArg_ParseTupleAndKeywords(arguments, names, ":Sha256", none))
		return NULL;
	Hash *self = (Hash *)type->tp_alloc(type, 0);
	if (self)
		self->state = empty;
	return (PyObject *)self;
}

/* The states are copied while the GIL is not held, so that threads that use one hash at a time, which
 * they must not, can only get a wrong one.
 */
static PyObject *hash_update(Hash *self, PyObject *data)
{
	Py_buffer buffer;
	if (PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE))
		return NULL;
	struct state state = self->state;
	if (buffer.len < WORTH_IT)
		update(&state, buffer.buf, buffer.len);
	else {
		Py_BEGIN_ALLOW_THREADS;
		clear_upper_halves();
		update(&state, buffer.buf, buffer.len);
		Py_END_ALLOW_THREADS;
	}
	self->state = state;
	PyBuffer_Release(&buffer);
	Py_RETURN_NONE;
}

static PyObject *hash_hexdigest(Hash *self, PyObject *Py_UNUSED(none))
{
	static const char digits[] = "0123456789abcdef";
	uint8_t bytes[DIGEST];
	char text[2 * DIGEST];
	digest(&self->state, bytes);
	for (int i = 0; i < DIGEST; i++) {
		text[2 * i] = digits[bytes[i] >> 4];
		text[2 * i + 1] = digits[bytes[i] & 15];
	}
	return PyUnicode_FromStringAndSize(text, sizeof text);
}

static PyMethodDef hash_methods[] = {
	{"update", (PyCFunction)hash_update, METH_O, "Add bytes."},
	{"hexdigest", (PyCFunction)hash_hexdigest, METH_NOARGS, "Return the hash of the bytes so far."},
	{NULL}};

static PyTypeObject hash_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "engine.hashing.multi_buffer.Sha256",
	.tp_doc = "The SHA-256 of bytes that come in order; for one thread at a time.",
	.tp_basicsize = sizeof(Hash),
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_new = hash_new,
	.tp_methods = hash_methods,
};

static PyObject *update_two(PyObject *Py_UNUSED(module), PyObject *arguments)
{
	Hash *hashes[2];
	Py_buffer buffers[2];
	if (!PyArg_ParseTuple(arguments, "O!y*O!y*:update_two", &hash_type, &hashes[0], &buffers[0],
	                      &hash_type, &hashes[1], &buffers[1]))
		return NULL;
	struct state copies[2] = {hashes[0]->state, hashes[1]->state};
	struct state *const states[2] = {&copies[0], &copies[1]};
	int are_two = hashes[0] != hashes[1];
	if (are_two) {
		Py_BEGIN_ALLOW_THREADS;
		clear_upper_halves();
		update_two_states(states, buffers);
		Py_END_ALLOW_THREADS;
		hashes[0]->state = copies[0];
		hashes[1]->state = copies[1];
	} else
		PyErr_SetString(PyExc_ValueError, "expected two hashes, found one");
	PyBuffer_Release(&buffers[0]);
	PyBuffer_Release(&buffers[1]);
	return are_two ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef functions[] = {
	{"update_two", update_two, METH_VARARGS, "Add bytes to each of two hashes."}, {NULL}};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT, .m_name = "multi_buffer", .m_size = -1, .m_methods = functions};

static int has_sha(void)
{
	unsigned a, b, c, d;
	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSSE3) && (c & bit_SSE4_1) &&
	       __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);
}

PyMODINIT_FUNC PyInit_multi_buffer(void)
{
	if (!has_sha()) {
		PyErr_SetString(PyExc_ImportError, "the processor has no SHA extensions");
		return NULL;
	}
	has_avx = __builtin_cpu_supports("avx");
	if (PyType_Ready(&hash_type))
		return NULL;
	PyObject *module = PyModule_Create(&definition);
	if (module && PyModule_AddObjectRef(module, "Sha256", (PyObject *)&hash_type))
		Py_CLEAR(module);
	return module;
}

#else

PyMODINIT_FUNC PyInit_multi_buffer(void)
{
	PyErr_SetString(PyExc_ImportError, "the processor has no SHA extensions");
	return NULL;
}

#endif
