"""The proof: what the service promises, tried out."""
