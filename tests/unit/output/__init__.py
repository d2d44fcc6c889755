"""Tests of procd.output: pure, or on a real loop without children."""
