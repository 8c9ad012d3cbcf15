"""The ground floor: telemetry, settings and commands. Imports nothing else of ours."""
