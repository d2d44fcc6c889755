"""Tests of procd.runtime: pure, or on a real loop without children."""
