"""The few system calls of Linux that Python's standard library does not have.

Owns their numbers and the way in, through the C library that is loaded anyway.  Must not know what they are
used for.  Every function raises OSError with the kernel's errno.

Everything is looked up when the module is imported: the functions are called in forked children too, where
little may be allocated and nothing imported.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from pathlib import Path
from typing import NoReturn

PR_SET_NO_NEW_PRIVS = 38
PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_IS_SET = 1
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

CLOSE_RANGE_CLOEXEC = 4
HIGHEST_FD = 0xFFFFFFFF
# What kernels before 5.11 answer, and sandboxes that do not know the call.
NO_CLOSE_RANGE = frozenset({errno.ENOSYS, errno.EINVAL, errno.EPERM})

IOPRIO_WHO_PROCESS = 1
IOPRIO_CLASS_SHIFT = 13

_SIGSET_BYTES = 128  # sigset_t of the C library, of which the kernel uses the first words
_CAPABILITY_VERSION_3 = 0x20080522
# ioprio_set has no wrapper in the C library and a number of its own on each family of machines (asm/unistd.h).
_IOPRIO_SET_NUMBERS = {
    "x86_64": 251,
    "aarch64": 30,
    "riscv64": 30,
    "loongarch64": 30,
    "ppc64le": 273,
    "s390x": 282,
}
_ioprio_set_number = _IOPRIO_SET_NUMBERS.get(os.uname().machine)
# close_range came after the numbers were unified: it is 436 everywhere.
_CLOSE_RANGE_NUMBER = 436

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_capset = _libc.capset
_capset.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
_signalfd = _libc.signalfd
_signalfd.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
_getsockopt = _libc.getsockopt
_getsockopt.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
_inotify_init = _libc.inotify_init1
_inotify_init.argtypes = [ctypes.c_int]
_inotify_add_watch = _libc.inotify_add_watch
_inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def _fail() -> NoReturn:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


def prctl(option: int, first: int = 0, second: int = 0) -> int:
    """Control the calling process in one respect: 0, or the value that was asked for."""
    result: int = _prctl(option, first, second, 0, 0)
    if result < 0:
        _fail()
    return result


def close_range_on_exec(first: int, last: int = HIGHEST_FD) -> None:
    """Mark all descriptors from `first` to `last` close-on-exec (close_range(2), Linux 5.11)."""
    arguments = (ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(CLOSE_RANGE_CLOEXEC))
    if _syscall(ctypes.c_long(_CLOSE_RANGE_NUMBER), *arguments) < 0:
        _fail()


def signal_descriptor(number: int) -> int:
    """A descriptor that is readable while a signal is pending, which has to be blocked (signalfd(2))."""
    mask = (1 << (number - 1)).to_bytes(_SIGSET_BYTES, sys.byteorder)
    fd: int = _signalfd(-1, mask, os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        _fail()
    return fd


def socket_option(fd: int, level: int, option: int, most_bytes: int) -> bytes:
    """The value of an option of a socket, of up to `most_bytes` (getsockopt(2)); Python's own takes 1,024."""
    value = ctypes.create_string_buffer(most_bytes)
    size = ctypes.c_uint32(most_bytes)
    if _getsockopt(fd, level, option, value, ctypes.byref(size)) < 0:
        _fail()
    return value.raw[: size.value]


def inotify() -> int:
    """A descriptor on which the kernel tells what happens to files that are watched (inotify(7))."""
    fd: int = _inotify_init(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        _fail()
    return fd


def inotify_watch(fd: int, path: str, events: int) -> int:
    """Watch a file for events; the number of the watch, which is given only once."""
    number: int = _inotify_add_watch(fd, os.fsencode(path), events)
    if number < 0:
        _fail()
    return number


def set_io_priority(io_class: int, level: int) -> None:
    """Set the I/O priority of the calling process (ioprio_set(2))."""
    if _ioprio_set_number is None:
        raise OSError(errno.ENOSYS, "no system call number is known for this machine")
    if not (1 <= io_class <= 3 and 0 <= level <= 7):
        # The kernel looks at some bits only and takes class 9 for class 1.
        raise OSError(errno.EINVAL, "no such I/O class or priority")
    value = ctypes.c_int(io_class << IOPRIO_CLASS_SHIFT | level)
    number = ctypes.c_long(_ioprio_set_number)
    if _syscall(number, ctypes.c_int(IOPRIO_WHO_PROCESS), ctypes.c_int(0), value) < 0:
        _fail()


def capability_sets(kept: frozenset[int]) -> bytes:
    """What `set_capabilities` takes: `kept` as the effective, permitted and inheritable sets."""
    mask = sum(1 << capability for capability in kept)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    return struct.pack("=6I", low, low, low, high, high, high)


def set_capabilities(sets: bytes) -> None:
    """Set the capabilities of the calling thread (capset(2)) to what `capability_sets` made."""
    if _capset(_CAPABILITY_HEADER, sets) < 0:
        _fail()


def last_capability() -> int:
    """The highest capability that this kernel knows."""
    return int(Path("/proc/sys/kernel/cap_last_cap").read_bytes())


_CAPABILITY_HEADER = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
