"""Never reads its standard input; says when a line would be waiting for it, and lives on."""

import select
import signal

print("up", flush=True)
select.select([0], [], [])
print("something waits", flush=True)
signal.pause()
