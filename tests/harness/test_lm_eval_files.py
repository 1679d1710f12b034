"""What would not be lm-eval's own word on the stored answers is not written in its name.

That the files equal those of lm-eval's own command line is in ``test_end_to_end``, beside its run.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from harness import run as running
from harness import store
from harness.lm_eval_files import write
from harness.spec import load_matrix
from harness.world import EMBEDDED_BASE
from maec.errors import InputError
from tests.harness.test_import import SHIPPED, rewritten
from tests.harness.test_own_tasks import TEMPLATE, hub, stand_in  # noqa: F401
from tests.harness.test_tasks import matrix_file


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


@pytest.mark.slow
def test_groups_and_chat_templates_are_written_as_lm_eval_writes_them(
    home: Path,
    tmp_path: Path,
    stand_in: None,  # noqa: F811
) -> None:
    base = Path(shutil.copytree(EMBEDDED_BASE, tmp_path / "base"))
    (base / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    tasks = {
        "science": {"like": "global_mmlu_full_{language}_stem", "num_fewshot": 2},
        "math": {"like": "mgsm_direct", "max_gen_toks": 8, "chat_template": True},
    }
    engine = {"kind": "transformers", "max_model_len": 1024}
    matrix = load_matrix(
        matrix_file(tmp_path, base="base", abilities=[*tasks], tasks=tasks, engine=engine)
    )
    console = Console(quiet=True)
    assert running.run(matrix, console).failures == {}
    assert write(tmp_path / "out", console, beside=tmp_path) == 1
    (folder,) = (tmp_path / "out").iterdir()
    plain, chat = (
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("results_*"))
    )
    assert (plain["fewshot_as_multiturn"], chat["fewshot_as_multiturn"]) == (False, True)
    scores = store.placed().set_index("task")["score"]
    (group,) = (name for name in plain["groups"] if "_te_" in name)
    assert plain["results"][group]["acc,none"] == pytest.approx(scores[group])
    assert plain["groups"][group] == plain["results"][group]
    parts = plain["group_subtasks"][group]
    assert len(parts) > 10 and set(parts) < plain["results"].keys()
    assert len(list(folder.glob("samples_*"))) == 2 * len(parts) + 2  # two languages
    (asked,) = folder.glob("samples_math_*_te_*")
    for line in asked.read_text(encoding="utf-8").splitlines():
        (request,) = json.loads(line)["arguments"].values()
        assert request["arg_0"].startswith("<user>") and request["arg_0"].endswith("<assistant>")
