"""The inspector: pages that show events and replay them. docs/operate.md says how to remove it."""
