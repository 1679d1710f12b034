"""What all tests share: a home of their own, and where real benchmark questions may lie."""

from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
REAL_DATA = CHECKOUT.parent / "shared" / "data"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty MAEC_HOME."""
    folder = tmp_path / "home"
    monkeypatch.setenv("MAEC_HOME", str(folder))
    yield folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """MGSM's and MSVAMP's files, which the project does not contain."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real MGSM and MSVAMP questions are not in {REAL_DATA}")
    return REAL_DATA
