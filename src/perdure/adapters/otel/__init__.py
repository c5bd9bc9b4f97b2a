"""OpenTelemetry's logs, as a place that telemetry goes to."""
