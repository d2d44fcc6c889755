"""The room procd.checks, without a kernel: a fake loop, a fake clock."""
