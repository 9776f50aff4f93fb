/* Passes lookups, and requests about nodes that never change, to a function in Python, without libfuse
 * and pyfuse3.
 *
 * That function returns the body of the answer, an errno, or None if libfuse has to process the
 * request. imgfs/fuse/direct.py is the caller.
 */

#include "session.h"

static PyObject *answerer;

/* Send an answer; return false if nobody waits for it, since the request was interrupted or the mount is
 * gone.
 */
bool direct_send(int fd, uint64_t request, int error, const void *body, size_t size)
{
	struct out_header out = { (uint32_t)(sizeof out + size), -error, request };
	struct iovec parts[] = { { &out, sizeof out }, { (void *)body, size } };
	return writev(fd, parts, 2) >= 0;
}

static bool pass_on(int fd, uint64_t request, PyObject *reply)
{
	if (PyBytes_Check(reply))
		direct_send(fd, request, 0, PyBytes_AS_STRING(reply), (size_t)PyBytes_GET_SIZE(reply));
	else if (PyLong_Check(reply))
		direct_send(fd, request, (int)PyLong_AsLong(reply), NULL, 0);
	else
		return false;
	return true;
}

bool direct_answer(int fd, const char *buffer, size_t size)
{
	const struct in_header *in = (const void *)buffer;
	if (!answerer || size < sizeof *in)
		return false;
	if (in->opcode != LOOKUP && !(in->nodeid & CONSTANT))
		return false;
	if (trees_answer(fd, buffer, size))
		return true;
	PyGILState_STATE state = PyGILState_Ensure();
	PyObject *reply = PyObject_CallFunction(answerer, "IKIy#", in->opcode, in->nodeid, in->pid,
						buffer + sizeof *in, size - sizeof *in);
	if (!reply)
		PyErr_WriteUnraisable(answerer);
	bool answered = reply && pass_on(fd, in->unique, reply);
	Py_XDECREF(reply);
	PyGILState_Release(state);
	return answered || trees_answer(fd, buffer, size); /* Python may have added the tree */
}

/* Pass requests to `function`, or to nobody if it is None. */
void imgfs_direct_begin(PyObject *function)
{
	PyObject *before = answerer;
	answerer = function == Py_None ? NULL : Py_NewRef(function);
	Py_XDECREF(before);
}
