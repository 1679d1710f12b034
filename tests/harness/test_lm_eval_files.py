"""What would not be lm-eval's own word on the stored answers is not written in its name.

That the files equal those of lm-eval's own command line is in ``test_end_to_end``, beside its run.
"""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from harness.lm_eval_files import write
from maec.errors import InputError
from tests.harness.test_import import SHIPPED, rewritten


def refused(out: Path, **options: object) -> str:
    before = sorted(out.iterdir()) if out.exists() else None
    with pytest.raises(InputError) as caught:
        write(out, Console(quiet=True), **options)
    assert (sorted(out.iterdir()) if out.exists() else None) == before
    assert not list(out.parent.glob(".partial-*")) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def theirs(home: Path, tmp_path: Path) -> Path:
    """A copy of the shipped set with two methods' rows."""
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "theirs"))
    rewritten(folder, "placements", lambda rows: rows[rows["method"].isin(["base", "maec"])])
    return folder


def test_what_cannot_be_written_is_refused_before_anything_is(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert "no matrix has a score yet" in refused(out)
    assert "is no released set" in refused(out, release="nothing")
    said = refused(out, release=str(theirs), matrices=["micr"])
    assert "--matrix: no matrix 'micr'" in said and "did you mean 'micro'" in said
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    assert "exists already" in refused(tmp_path / "full", release=str(theirs))
    other = {"math": "embedded_science", "science": "embedded_math"}
    monkeypatch.setattr("harness.tasks.TEMPLATES", other)
    assert "this program asks otherwise than cell" in refused(out, release=str(theirs))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("output", "12", "lm-eval makes exact_match"),
        ("prompt", "Q: How many? A:", "asks it in other words"),
    ],
)
def test_answers_and_prompts_that_are_not_those_of_the_score_are_refused(
    theirs: Path, tmp_path: Path, column: str, value: str, said: str
) -> None:
    def forged(items: pd.DataFrame) -> pd.DataFrame:
        return items.assign(**{column: items[column].where(items["output"].isna(), value)})

    rewritten(theirs, "items", forged)
    assert said in refused(tmp_path / "out", release=str(theirs))
