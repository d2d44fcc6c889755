"""The configuration: TOML in, frozen specs out; old and new specs in, a plan out."""

from procd.config.loading import load
from procd.config.reference import json_schema

__all__ = ["json_schema", "load"]
