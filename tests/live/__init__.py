"""Generated projects at work: their processes, what they talk to, and who sends to them."""
