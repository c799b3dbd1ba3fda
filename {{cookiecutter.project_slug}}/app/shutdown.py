"""A bound on how long a process may take to end."""

import os
import threading

ENDING_SECONDS = 5  # after DRAIN_SECONDS, for what is left to do


def end_within(seconds: float) -> None:
    """End this process after so many seconds, if it has not ended by itself, with status 1.

    A thread, a handler that ignores its cancellation, or a database that hangs would keep it for
    ever. What is unfinished then is in the inbox, and due again when its lease runs out.
    """
    timer = threading.Timer(seconds, os._exit, [1])
    timer.daemon = True
    timer.start()
