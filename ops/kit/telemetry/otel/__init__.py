"""OpenTelemetry: traces and metrics by OTLP, configured by its standard environment variables (``OTEL_...``).

Nothing here imports its libraries until an exporter is wanted: they are the extra ``otel``, and cost a process that
does not use them nothing.
"""
