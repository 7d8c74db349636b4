"""OpenTelemetry traces: the spans of this process, and the context that commands and runs carry from one to another."""
