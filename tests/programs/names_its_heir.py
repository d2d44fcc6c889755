"""Forks, names the child as its main process (MAINPID) and as ready, and exits; the child waits for SIGTERM.

With `outsider` it names PID 1 instead, and stays.
"""

import os
import signal
import socket
import sys
import time


def notify(text: str) -> None:
    """Send a datagram to the service manager, and wait until it was heard (BARRIER)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(os.environ["NOTIFY_SOCKET"])
        sock.send(text.encode())
        heard, told = os.pipe()
        socket.send_fds(sock, [b"BARRIER=1"], [told])
        os.close(told)
        os.read(heard, 1)


if sys.argv[1:] == ["outsider"]:
    notify("MAINPID=1\nREADY=1\nSTATUS=named a stranger")
    signal.pause()
read_end, write_end = os.pipe()
child = os.fork()
if child == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    os.write(write_end, b"x")
    while True:
        time.sleep(1000)
os.read(read_end, 1)
notify(f"MAINPID={child}\nREADY=1\nSTATUS=handed over")
