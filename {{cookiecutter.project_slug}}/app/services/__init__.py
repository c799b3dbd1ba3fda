"""Yours: the business logic that the handlers call, and its tables."""
