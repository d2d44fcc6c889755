"""The logger: the process that moves what programs write from their pipes into their logs.

Owns pipes, log files and their rotation, and tells the daemon what it must know (`procd.output.messages`).
Must not know programs' states, or who reads a log.  It can be killed at any moment, by whatever: the daemon
holds the other end of everything it needs to go on without a byte lost or doubled.

It is small on purpose: no event loop of the standard library, no logging, no dataclasses.
"""
