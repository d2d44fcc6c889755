"""`python -m procctl`."""

from __future__ import annotations

from procctl.cli import main

if __name__ == "__main__":
    main()
