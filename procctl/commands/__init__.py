"""The verbs of procctl, one file for each family; only the file of the verb that is used is imported."""

from __future__ import annotations

FAMILY_OF_VERB = {
    "status": "status",
    "start": "lifecycle",
    "stop": "lifecycle",
    "restart": "lifecycle",
    "signal": "lifecycle",
    "wait": "lifecycle",
    "send": "stdin",
    "close": "stdin",
    "logs": "logs",
    "attach": "attach",
    "why": "why",
    "events": "events",
    "run": "run",
    "forget": "run",
    "rotate": "lifecycle",
    "reload": "daemon",
    "upgrade": "daemon",
    "shutdown": "daemon",
    "version": "daemon",
    "metrics": "daemon",
    "completion": "completion",
}
"""The verb → the file of this package that defines it, under the verb's name.  In the order of --help."""

ONE_HOST_VERBS = frozenset({"attach"})
"""Those that speak with a person, and so with one host at a time."""
