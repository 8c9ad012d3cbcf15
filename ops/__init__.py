"""Running and watching Unlost: telemetry for all, the command kit, the local system, the audit."""
