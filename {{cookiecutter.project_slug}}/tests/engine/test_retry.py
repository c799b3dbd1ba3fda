"""When a failed attempt is repeated."""

import pytest

from app.processing.policy import policy_of
from app.processing.retry import backoff
from app.settings import settings


@pytest.mark.parametrize("failures", [1, 2, 3, 7, 8, 100, 10_000])
def test_the_wait_doubles_up_to_a_cap_and_half_of_it_is_random(failures: int) -> None:
    base, cap = settings.retry_base_seconds, settings.retry_cap_seconds
    longest = min(cap, base * 2 ** min(failures - 1, 30))

    waits = [backoff(failures, policy_of(None)) for _ in range(200)]

    assert longest / 2 <= min(waits) < longest * 0.6
    assert longest * 0.9 < max(waits) <= longest
