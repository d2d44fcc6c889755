"""Tests of procd.config."""
