"""Tests of single modules, without a kernel or a clock."""
