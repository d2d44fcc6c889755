"""The configuration: TOML in, frozen specs out; old and new specs in, a plan out."""

from procd.config.loading import load

__all__ = ["load"]
