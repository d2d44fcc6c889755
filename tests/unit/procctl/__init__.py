"""Tests of procctl, against a daemon that only speaks the protocol."""
