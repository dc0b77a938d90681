"""Fixed random numbers for the nn tests."""

import lamina.core as mx
import pytest


@pytest.fixture(autouse=True)
def seeded():
    mx.random.seed(0)
