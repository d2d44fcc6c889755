"""Linux capabilities by name (capabilities(7)), and which of them this process has.

Owns the numbers, which are the kernel's ABI.  Must not know keys.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from procd.config.problems import Mistake, did_you_mean, quoted

NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip

SETPCAP, SYS_ADMIN, SYS_NICE, SYS_RESOURCE = map(
    NAMES.index, ("SETPCAP", "SYS_ADMIN", "SYS_NICE", "SYS_RESOURCE")
)
_NUMBERS = {name: number for number, name in enumerate(NAMES)}


def number_of(word: str) -> int:
    """The number of a capability, with or without `CAP_`, in any case; Mistake for what this kernel has not."""
    number = _NUMBERS.get(word.upper().removeprefix("CAP_"))
    if number is None:
        raise Mistake(f"{quoted(word)} is not a capability", _closest(word.upper().removeprefix("CAP_")))
    if number > _last():
        raise Mistake(f"this kernel does not have {name_of(number)}", "remove it")
    return number


def name_of(number: int) -> str:
    """`CAP_KILL` for 5."""
    return f"CAP_{NAMES[number]}"


def own() -> frozenset[int]:
    """The capabilities that this process has in effect (CapEff in proc(5))."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    mask = int(status.partition("\nCapEff:")[2].split(maxsplit=1)[0], 16)
    return frozenset(number for number in range(mask.bit_length()) if mask >> number & 1)


def _closest(word: str) -> str:
    longer = [name for name in NAMES if word and name.startswith(word)]
    return did_you_mean(word, longer if len(longer) == 1 else NAMES, "see capabilities(7)")


@cache
def _last() -> int:
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii"))
