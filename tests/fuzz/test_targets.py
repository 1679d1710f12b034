"""A few inputs of every fuzzing target in each run of the tests."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CHEAP = {name: target for name, (target, _) in TARGETS.items() if name != "adapter"}
"""All but one that imports peft, for seconds."""


@pytest.mark.parametrize("target", CHEAP.values(), ids=CHEAP)
def test_a_reader_raises_nothing_but_what_it_documents(target: Callable[[bytes], None]) -> None:
    settings(max_examples=300, deadline=None)(given(st.binary(max_size=200))(target))()
