"""A store of made-up answers, and pages opened on it without a browser."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from harness.home import snapshot_path
from tests.conftest import CHECKOUT
from tests.leaderboard.synthetic import fill

Open = Callable[..., AppTest]


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a synthetic store that nobody writes to any more."""
    folder = tmp_path_factory.mktemp("synthetic")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAEC_HOME", str(folder))
        fill()
        yield folder


@pytest.fixture
def snapshot(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of the synthetic store, which is MAEC_HOME's."""
    monkeypatch.setenv("MAEC_HOME", str(filled))
    return snapshot_path()


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens a page by its name, with query parameters as keywords; caches start empty."""
    st.cache_data.clear()

    def show(name: str = "ranking", **query: object) -> AppTest:
        app = AppTest.from_file(str(CHECKOUT / "leaderboard" / "app.py"), default_timeout=120)
        app.query_params.update(query)
        app.run()
        return app if name == "ranking" else app.switch_page(f"views/{name}.py").run()

    yield show
    st.cache_data.clear()
