"""What concerns a whole process. Only entry points call this."""

import sys

SWITCH_SECONDS = 0.0005


def let_threads_take_turns() -> None:
    """Let the thread that commits have its turn after 0.5 ms, where Python would take 5 ms.

    It needs several turns for each batch, and others wait meanwhile.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
