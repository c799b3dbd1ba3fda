"""Tests of the engine, on endpoints, a handler and a table of their own."""
