"""Yours: tests of the handlers. `tests/conftest.py` says how to write them."""
