"""The memory that buffers and values take from the system, and give back."""


def keep_freed_memory(size: int) -> None:
    """Make malloc keep the memory of freed buffers of up to `size` bytes, 32 MiB at most.

    Otherwise glibc returns the memory of each buffer to the kernel, which clears it again for the
    next one. glibc raises its threshold for that when a larger allocation is freed; the allocation
    that is made here is never written to.
    """
    bytes(size)


def return_freed_memory() -> None:
    """Return freed memory to the kernel after work on many small values, if the C library can.

    glibc returns only what is free at the end of its heap.
    """
    from ctypes import CDLL  # deferred: most commands do without

    trim = getattr(CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
