"""Generated projects at work: their processes, their servers, and a sender of webhooks."""
