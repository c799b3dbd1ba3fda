"""The inspector: pages that show the events, and replay them. README.md says how to remove it."""
