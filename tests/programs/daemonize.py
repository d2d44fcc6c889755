"""Becomes a daemon as the textbooks say: fork, setsid, fork; optionally with a clean environment.

Arguments: "clean" or "keep"; then "stay" (the first parent waits for its stdin to end) or "leave".
The daemon prints its PID and waits for ever.
"""

import os
import sys

environment = {} if sys.argv[1] == "clean" else dict(os.environ)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        script = "import os, signal; print(os.getpid(), flush=True); os.close(0); signal.pause()"
        os.execve(sys.executable, [sys.executable, "-I", "-c", script], environment)  # noqa: S606 - no shell is wanted
    os._exit(0)
os.wait()
if sys.argv[2] == "stay":
    sys.stdin.read()
