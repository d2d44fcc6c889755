"""Ends soon, and leaves a member in its process group whose parent reaps nobody for a second."""

import os
import signal
import time

if os.fork():
    time.sleep(0.05)
    os._exit(3)
member = os.fork()
if not member:
    signal.pause()
os.setpgid(0, 0)
time.sleep(1.0)
os.waitpid(member, 0)
