"""A request: its route, the verification of its signature, and the answer."""
