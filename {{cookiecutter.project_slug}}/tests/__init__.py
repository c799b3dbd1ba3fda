"""The tests: of your handlers in `handlers/`, of everything around them in `engine/`."""
