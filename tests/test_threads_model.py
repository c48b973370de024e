"""The protocol of base/threads.c in all interleavings of a few threads (threads_model.py). THREADS_MODEL=1: more of them, in minutes."""

import os

import pytest
from threads_model import BROKEN, Model, explore

SHORT = [(2, 2, (2, 1)), (2, 1, (2, 2))]
LONG = [(2, 2, (3, 2)), (2, 3, (2, 2)), (3, 1, (2,))]


@pytest.mark.parametrize("threads, jobs, units", SHORT + (LONG if os.environ.get("THREADS_MODEL") else []))
def test_no_order_of_events_loses_a_unit_or_a_wake_up(threads, jobs, units):
    assert explore(Model(threads, jobs, units)) > 1000


@pytest.mark.parametrize("broken", BROKEN)
def test_the_model_notices_what_is_broken(broken):
    with pytest.raises(AssertionError):
        explore(Model(2, 2, (2, 1), broken))
