"""The durable inbox: every event is committed here before it is acknowledged."""
