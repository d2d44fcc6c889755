"""The pure machine, in virtual time."""
