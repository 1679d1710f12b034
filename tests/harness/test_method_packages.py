"""Methods of other packages: found by their entry points, and their faults told in one line."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import methods
from harness.methods import tv
from harness.spec import ROLES
from maec.errors import InputError
from maec.settings import TrainSettings
from tests.harness.packages import install
from tests.harness.test_identity import SETTINGS, parts

CODE = Path(tv.__file__).read_text(encoding="utf-8")
PARTS = parts(training={role: TrainSettings(**SETTINGS) for role in ROLES})


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs packages that this process sees."""

    def install_here(package: str, **code: str) -> None:
        install(tmp_path, package, {name.replace("_", "-"): text for name, text in code.items()})
        methods._entry_points.cache_clear()

    monkeypatch.syspath_prepend(tmp_path)
    yield install_here
    methods._entry_points.cache_clear()


def refused(name: str, build: bool = False) -> str:
    with pytest.raises(InputError) as caught:
        method = methods.load(name)
        if build:
            method.model(PARTS, ["math"], {})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_method_of_a_package_is_like_one_of_ours(installed: Callable[..., None]) -> None:
    installed("theirs_a", add_up=CODE)
    assert "add-up" in methods.available()
    theirs, ours = methods.load("add-up"), methods.load("tv")
    assert theirs.space == ours.space
    given = {"scale": 0.5}
    step = theirs.model(PARTS, ["math"], given)
    assert step.key == ours.model(PARTS, ["math"], given).key
    assert methods.packages(["add-up", "tv"]) == {"theirs_a": "1.2"}
    with pytest.raises(InputError, match="method 'add-up' has no parameter 'scael'; did you mean"):
        theirs.check_parameters({"scael": 1})


def test_a_name_that_is_there_twice_is_refused(installed: Callable[..., None]) -> None:
    installed("theirs_b", tv=CODE, other=CODE)
    installed("theirs_c", other=CODE)
    assert "in harness/methods/ and package 'theirs_b'" in refused("tv")
    assert "in package 'theirs_b' and package 'theirs_c'" in refused("other")
    assert methods.load("maec")  # the others are as they were


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module' (bad.py"),
        ("def build(:", "SyntaxError: "),
        ("x = 1", "AttributeError: module"),
        ("INFO = 3\n\ndef build(parts, abilities): ...", "INFO must be a harness.methods.Info"),
        ("from harness.methods.tv import INFO", "has no attribute 'build'"),
    ],
)
def test_a_package_that_cannot_be_loaded_is_told_in_one_line(
    installed: Callable[..., None], tmp_path: Path, code: str, told: str
) -> None:
    installed(tmp_path.name, bad=code)
    message = refused("bad")
    assert f"method 'bad' of package '{tmp_path.name}' 1.2 is broken: " in message
    assert told in message


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("return {}['x']", "KeyError: 'x' (build.py, line 4)"),
        # what every method of this project is kept from, too
        ("return parts.translated_ability('math', 'te')", "without declaring it"),
    ],
)
def test_a_package_whose_build_fails_is_told_in_one_line(
    installed: Callable[..., None], tmp_path: Path, line: str, told: str
) -> None:
    code = f"from harness.methods.tv import INFO\n\ndef build(parts, abilities):\n    {line}\n"
    installed(tmp_path.name, build=code)
    message = refused("build", build=True)
    assert f"method 'build' of package '{tmp_path.name}' 1.2 is broken: " in message
    assert told in message
