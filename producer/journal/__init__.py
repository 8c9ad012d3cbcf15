"""The journal: every accepted event in its place, durable before it is acknowledged."""
