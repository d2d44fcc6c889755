"""What the logger gives up: every right that it does not need.

Under root it keeps two capabilities (capabilities(7)): log files are in directories of any owner, and pipes may
be larger than others'.
"""

from __future__ import annotations

import ctypes
import os

_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_DAC_OVERRIDE, _SETPCAP, _SYS_RESOURCE = 1, 8, 24
_KEPT = 1 << _DAC_OVERRIDE | 1 << _SYS_RESOURCE

_libc = ctypes.CDLL(None, use_errno=True)


def give_up() -> None:
    """Give up what is not needed, for good.  Raises OSError: then nobody is to go on."""
    _call(_libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    ours = _effective()
    # Without CAP_SETPCAP, as in some containers, nothing can be given up.
    if os.geteuid() != 0 or not ours >> _SETPCAP & 1:
        return
    last = int(_read("/proc/sys/kernel/cap_last_cap"))
    for number in range(last + 1):
        if not _KEPT >> number & 1:
            _call(_libc.prctl, _PR_CAPBSET_DROP, number, 0, 0, 0)
    kept = ours & _KEPT
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted and inheritable, the lower halves of all, then the upper ones.
    data = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)
    _call(_libc.capset, header, data)


def _effective() -> int:
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _read(path: str) -> str:
    # pathlib would be an eighth of the logger's memory.
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - see above
        return file.read()


def _call(function: ctypes._NamedFuncPointer, *arguments: object) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "the logger's rights")
