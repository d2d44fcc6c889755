"""procctl: the command line of procd, and a client library for programs that script it."""
