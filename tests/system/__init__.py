"""Real `procd` with real `procctl`, against real programs, and under a real systemd."""
