"""The processing of an event: dispatched, attempted, retried, and in the end done or dead."""
