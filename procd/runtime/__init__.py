"""The shell around the core: actions become processes, and processes become events.

Owns the lives of the programs.  Must not know who is connected, nor how the configuration was found.
"""

from procd.runtime.runtime import Runtime

__all__ = ["Runtime"]
