"""Readiness and health: the ways in which a program can say, or be asked, how it is; and schedules.

Owns the notify socket, probes over TCP, HTTP and by command, readiness by descriptor and by log line,
watchdogs, and the clock of cron expressions.  Must not know what an answer leads to, nor how a process is
started: it tells the first to callbacks, and is given functions for the second.  Everything here lives on the
one loop, in callbacks: no tasks, no threads, and nothing that wakes up while there is nothing to ask.

Once for each daemon:

    notify = NotifySocket(loop, listen(f"{runtime_dir}/notify.sock"),
                          owner_of=name_of_pid, belongs=is_in_tree, on_message=heard)
    scheduler = Scheduler(loop, on_due=lambda name: submit(ScheduleDue(name)))
    scheduler.set("backup", Schedule("0 3 * * *")); scheduler.next_due("backup")

Once for each life, when the core says AwaitReady and WatchHealth; `heard` passes notifications on to both:

    means = Means(loop, run=run_as_the_program, logs=(LogSource(start, read, watch),), ready_fd=read_end)
    life.readiness = Readiness(spec.ready, means, on_ready=lambda: submit(BecameReady(name)))
    life.health = HealthWatch(spec.health, means, on_passed=lambda: submit(CheckPassed(name)),
                              on_failed=lambda reason, *, final: submit(CheckFailed(name, reason, final)))
    life.readiness.notified(notification); life.health.notified(notification)
    life.readiness.cancel(); life.health.cancel()    # when the life ends
"""

from procd.checks.command import RunCommand
from procd.checks.log_line import LogSource
from procd.checks.notification import Notification
from procd.checks.notify import NotifySocket, listen
from procd.checks.runner import HealthWatch, Means, Readiness
from procd.checks.schedule import Schedule, Scheduler
from procd.checks.watchdog import OnFailed

__all__ = [
    "HealthWatch",
    "LogSource",
    "Means",
    "Notification",
    "NotifySocket",
    "OnFailed",
    "Readiness",
    "RunCommand",
    "Schedule",
    "Scheduler",
    "listen",
]
