"""Running and watching Unlost: shared telemetry, the command kit, the local system, audit, drills and benchmarks."""
