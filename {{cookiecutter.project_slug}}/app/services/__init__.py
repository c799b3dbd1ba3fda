"""Your business logic: what the handlers call."""
