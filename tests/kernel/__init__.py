"""Tests on a real kernel: children, pipes, users, terminals."""
