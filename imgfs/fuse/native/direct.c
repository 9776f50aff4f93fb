/* Passes lookups, and requests about nodes that never change, to a function in Python, without libfuse
 * and pyfuse3.
 *
 * That function returns the body of the answer, an errno, or None if libfuse has to process the
 * request. imgfs/fuse/direct.py is the caller.
 */

#include "session.h"

static PyObject *answerer;

static bool send(int fd, uint64_t request, PyObject *reply)
{
	struct out_header out = { .len = sizeof out, .unique = request };
	struct iovec parts[] = { { &out, sizeof out }, { NULL, 0 } };
	if (PyBytes_Check(reply)) {
		parts[1].iov_base = PyBytes_AS_STRING(reply);
		parts[1].iov_len = (size_t)PyBytes_GET_SIZE(reply);
		out.len += (uint32_t)parts[1].iov_len;
	} else if (PyLong_Check(reply)) {
		out.error = -(int32_t)PyLong_AsLong(reply);
	} else {
		return false;
	}
	if (writev(fd, parts, 2) < 0)
		errno = 0; /* the mount is gone: nobody waits for the answer */
	return true;
}

bool direct_answer(int fd, const char *buffer, size_t size)
{
	const struct in_header *in = (const void *)buffer;
	if (!answerer || size < sizeof *in)
		return false;
	if (in->opcode != LOOKUP && !(in->nodeid & CONSTANT))
		return false;
	PyGILState_STATE state = PyGILState_Ensure();
	PyObject *reply = PyObject_CallFunction(answerer, "IKIy#", in->opcode, in->nodeid, in->pid,
						buffer + sizeof *in, size - sizeof *in);
	if (!reply)
		PyErr_WriteUnraisable(answerer);
	bool answered = reply && send(fd, in->unique, reply);
	Py_XDECREF(reply);
	PyGILState_Release(state);
	return answered;
}

/* Pass requests to `function`, or to nobody if it is None. */
void imgfs_direct_begin(PyObject *function)
{
	PyObject *before = answerer;
	answerer = function == Py_None ? NULL : Py_NewRef(function);
	Py_XDECREF(before);
}
