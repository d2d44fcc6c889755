"""A hook of the chaos: after a moment it notes in EVIDENCE/NAME.lives that it ran."""

import os
import sys
import time

time.sleep(0.05)
place = f"{sys.argv[1]}/{os.environ['PROCD_PROGRAM']}@{os.environ['PROCD_INSTANCE']}.lives"
file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
os.write(file, b"hook %d\n" % os.getpid())
