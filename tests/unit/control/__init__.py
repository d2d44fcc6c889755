"""Tests of procd.control: pure, or on a real loop without children."""
