"""What tests of the harness share: a worker process."""

from collections.abc import Iterator

import pytest

from harness.workers import Workers, start_workers


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """One worker process with one thread, and a MAEC_HOME for all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAEC_HOME", str(tmp_path_factory.mktemp("home")))
        with start_workers(1, 1) as started:
            yield started
