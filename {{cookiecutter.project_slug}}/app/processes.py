"""Settings of a whole process. Only entry points call this."""

import sys

SWITCH_SECONDS = 0.0005


def let_threads_take_turns() -> None:
    """Let a waiting thread run after 0.5 ms, instead of Python's 5 ms.

    The thread that commits has to run several times for each batch, and requests wait for it.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
