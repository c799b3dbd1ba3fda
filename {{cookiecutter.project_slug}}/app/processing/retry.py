"""When a failed attempt is repeated: exponential backoff with jitter."""

import random

from app.events import RetryAfter
from app.processing.policy import Policy


def wait_after(error: Exception, failures: int, policy: Policy) -> float:
    """Return the seconds to wait after an error, the latest in a number of failed attempts."""
    if isinstance(error, RetryAfter):
        return min(error.seconds, policy.retry_cap_seconds)
    return backoff(failures, policy)


def backoff(failures: int, policy: Policy) -> float:
    """Return the seconds to wait after a number of failed attempts.

    The wait doubles with each of them, up to a cap. Half of it is random, so that events that
    failed together are not repeated together.
    """
    doublings = min(failures - 1, 60)  # more would be too large a number
    longest = min(policy.retry_cap_seconds, policy.retry_base_seconds * 2**doublings)
    return random.uniform(longest / 2, longest)  # noqa: S311
