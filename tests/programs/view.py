"""Prints, as JSON, how a child finds itself: descriptors, signals, limits, credentials, scheduling."""

import json
import os
import resource
import sys
from pathlib import Path

status = {}
for line in Path("/proc/self/status").read_text().splitlines():
    name, _, value = line.partition(":")
    status[name] = value.split()
listed = [int(each.name) for each in Path("/proc/self/fd").iterdir()]
descriptors = sorted(fd for fd in listed if os.path.lexists(f"/proc/self/fd/{fd}"))
mask = os.umask(0)
limits = {
    name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")
}
view = {
    "pid": os.getpid(),
    "session": os.getsid(0),
    "group": os.getpgrp(),
    "descriptors": descriptors,
    "status": status,
    "uids": os.getresuid(),
    "gids": os.getresgid(),
    "groups": os.getgroups(),
    "directory": str(Path.cwd()),
    "umask": mask,
    "limits": limits,
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "affinity": sorted(os.sched_getaffinity(0)),
    "oom_score_adj": int(Path("/proc/self/oom_score_adj").read_text()),
    "environment": dict(os.environ),
    "arguments": sys.argv[1:],
}
print(json.dumps(view))
