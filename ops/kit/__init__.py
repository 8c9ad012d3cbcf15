"""The lowest layer: telemetry, settings and commands. It imports no other part of the package."""
