"""When a failed attempt is repeated: exponential backoff with jitter."""

import random

from app.events import RetryAfter
from app.settings import settings


def wait_after(error: Exception, failures: int) -> float:
    """Return the seconds to wait after an error that was the last of so many failed attempts."""
    if isinstance(error, RetryAfter):
        return min(error.seconds, settings.retry_cap_seconds)
    return backoff(failures)


def backoff(failures: int) -> float:
    """Return the seconds to wait after so many failed attempts.

    The wait doubles with each of them up to `RETRY_CAP_SECONDS`. Half of it is at random, so that
    events that failed together are not repeated together.
    """
    doublings = min(failures - 1, 60)  # more would be too large a number
    longest = min(settings.retry_cap_seconds, settings.retry_base_seconds * 2**doublings)
    return random.uniform(longest / 2, longest)  # noqa: S311
