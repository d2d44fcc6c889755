"""`python -m procd`."""

from procd.cli import main

main(prog_name="procd")
