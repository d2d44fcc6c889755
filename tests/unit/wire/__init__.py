"""Tests of procd.wire."""
