"""The methods of the control socket: one static table, and a file for each family of them."""

from procd.control.methods.table import METHODS, Method

__all__ = ["METHODS", "Method"]
