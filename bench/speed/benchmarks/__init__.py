"""The asv suite: speed, memory and errors by commit. `cryosip speed` runs it; it is not part of the package."""
