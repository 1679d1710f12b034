"""The whole matrix, as a user runs it: `make matrix`, twice, and looked at."""

import json
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
import yaml

from harness import store
from tests.conftest import CHECKOUT, NANO, environment, make_matrix

pytestmark = pytest.mark.slow

METHODS = ["base", "f-cpt-l", "f-cpt-a", "f-cpt-la", "l-cpt-la", "da", "t-cpt", "tv", "maec"]


def table(home: Path) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "table", NANO, "--json"],
        cwd=CHECKOUT,
        env=environment(home),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def query(home: Path, sql: str) -> list[tuple]:
    with duckdb.connect(str(home / "snapshot.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_it_ends_with_the_tables_and_the_line_that_opens_the_leaderboard(ran: Path) -> None:
    printed = (ran / "stdout").read_text(encoding="utf-8")
    for word in ("math", "science", *METHODS):
        assert word in printed
    assert printed.strip().endswith("leaderboard: make leaderboard")


def test_every_cell_of_the_matrix_has_a_score_with_its_items(ran: Path) -> None:
    rows = table(ran)
    own = [row for row in rows if row["asked"] == row["ability"]]
    text = [row for row in rows if row["asked"] == "text"]
    other = [row for row in rows if row not in own and row not in text]
    for kind, n in ((own, 12), (text, 4), (other, 4)):
        assert len(kind) == len(METHODS) * 5 * 2
        assert {row["method"] for row in kind} == set(METHODS)
        assert {row["n"] for row in kind} == {n}
    for row in own + other:
        assert 0 <= row["score"] <= 1 and row["stderr"] is not None
    for row in rows:
        assert row["score"] >= 0
        assert Path(row["model_path"], "config.json").is_file()
        assert Path(row["task_path"], f"{row['task']}.yaml").is_file()
    wrong = query(
        ran,
        """SELECT c.key FROM cells c JOIN items i ON i.cell = c.key GROUP BY c.key, c.score, c.n
           HAVING abs(c.score - avg(i.correct::INT)) > 1e-9 OR count(*) <> c.n""",
    )
    assert wrong == []
    judged = query(
        ran,
        """SELECT p.asked = 'text', i.correct IS NULL, count(DISTINCT c.key) FROM cells c
           JOIN placements p ON p.cell = c.key JOIN items i ON i.cell = c.key
           GROUP BY ALL ORDER BY ALL""",
    )
    assert [kind[:2] for kind in judged] == [(False, False), (True, True)]


def test_a_second_run_finds_nothing_to_do(ran: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (ran / "artifacts").rglob("*")}
    done = make_matrix(ran)
    assert done.returncode == 0
    assert "nothing to do" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in (ran / "artifacts").rglob("*")} == before
    assert query(ran, "SELECT count(*) FROM runs") == [(1,)]


def test_the_run_records_versions_commit_hardware_and_the_engines_figures(ran: Path) -> None:
    ((status, versions, hardware, engine),) = query(
        ran, "SELECT status, versions, hardware, engine FROM runs"
    )
    assert status == "done"
    assert {"python", "torch", "transformers", "lm-eval"} <= json.loads(versions).keys()
    assert json.loads(hardware)["cores"] >= 1
    figures = json.loads(engine)
    assert figures["start_seconds"] > 0 and figures["items_per_second"] > 0
    assert len(figures["switch_seconds"]) == 16  # models: one, one, and two each of seven


def test_shared_steps_ran_once(ran: Path) -> None:
    kinds = dict(query(ran, "SELECT kind, count(*) FROM artifacts GROUP BY kind"))
    # language ×4, languages, and two each of ability, joint, lora, adapt, translated, locate,
    # key neurons and pivot (whose masks differ)
    assert kinds == {"train": 21, "locate": 2, "extract": 2, "combine": 2, "mergekit": 2}


def test_a_models_card_calls_it_as_its_folder_is_called(ran: Path) -> None:
    cards = list((ran / "artifacts").glob("*/*/README.md"))
    assert len(cards) == 6  # packs and merges
    for card in cards:
        text = card.read_text(encoding="utf-8")
        assert f"# {card.parent.name}\n" in text and ".partial-" not in text


def test_no_artifact_of_maec_saw_ability_text_of_a_target_language(ran: Path) -> None:
    manifests = query(ran, "SELECT manifest FROM artifacts WHERE kind IN ('extract', 'combine')")
    assert len(manifests) == 4
    for (manifest,) in manifests:
        corpora = json.loads(manifest)["corpora"]
        assert any(corpus["ability"] for corpus in corpora)
        assert {c["language"] for c in corpora if c["ability"]} == {"en"}


@pytest.fixture(scope="module")
def exported(ran: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The matrix as files of lm-eval."""
    folder = tmp_path_factory.mktemp("exported") / "files"
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "export-lm-eval", folder],
        cwd=CHECKOUT,
        env=environment(ran),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == f"{folder}: 16 models"
    return folder


def read_lines(path: Path) -> list[dict]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return sorted(map(json.loads, lines), key=lambda sample: sample["doc_id"])


def same_files(ours: Path, theirs: Path, task: str, machine: Path) -> None:
    """Our folder of a model says of ``task`` what lm-eval's own says, in the same shape."""
    (one,), (other,) = ours.glob("results_*.json"), theirs.glob("results_*.json")
    assert str(machine) not in one.read_text(encoding="utf-8")
    one, other = (json.loads(path.read_text(encoding="utf-8")) for path in (one, other))
    # nothing is stored of the tokenizer, and lm-eval leaves it out of models without one
    tokenizer = {"eot_token_id", "max_length"} | {k for k in other if k.startswith("tokenizer_")}
    assert one.keys() == other.keys() - tokenizer
    assert one["config"].keys() == {k for k in other["config"] if not k.startswith("model_")} | {
        "model_args"
    }
    for part in ("results", "versions", "n-shot", "higher_is_better", "n-samples", "task_hashes"):
        assert one[part][task] == other[part][task], part
    for configs in (one["configs"], other["configs"]):
        configs[task] |= {"dataset_kwargs": None, "metadata": None}  # paths, and its model_args
    assert one["configs"][task] == other["configs"][task]
    own, his = (
        read_lines(next(folder.glob(f"samples_{task}_2*.jsonl"))) for folder in (ours, theirs)
    )
    for sample, peer in zip(own, his, strict=True):
        assert sample.keys() == peer.keys()
        for name in sample.keys() - {"resps", "filtered_resps"}:
            assert sample[name] == peer[name], name
        for name in ("resps", "filtered_resps"):
            assert shape(sample[name]) == shape(peer[name])


def shape(value: object) -> object:
    return [shape(part) for part in value] if isinstance(value, list) else type(value)


def test_lm_evals_own_readers_read_what_was_exported(exported: Path) -> None:
    from datasets import load_dataset
    from lm_eval import utils

    names = [str(path) for path in exported.rglob("*.json*")]
    results = utils.get_results_filenames(names)
    samples = utils.get_sample_results_filenames(names)
    assert len(results) == 16 and len(results) + len(samples) == len(names)
    assert utils.get_latest_filename(results) in results
    for path in results:
        read = json.loads(Path(path).read_text(encoding="utf-8"))
        shown = utils.make_table(read)
        own = [name for name in samples if Path(name).parent == Path(path).parent]
        tasks = {utils.get_file_task_name(Path(name).name) for name in own}
        assert tasks == read["results"].keys()
        assert all(task in shown for task in tasks)
    of_a_task = next(name for name in samples if "embedded_science_te_2" in name)
    loaded = load_dataset("json", data_files=of_a_task, split="train", cache_dir=str(exported))
    assert len(loaded) == 12 and set(loaded["filter"]) == {"none"}


@pytest.mark.parametrize(("method", "ability", "language"), [("maec", "math", "te"),
                                                            ("tv", "science", "zh")])  # fmt: skip
def test_scores_equal_those_of_lm_evals_own_command_line_item_by_item(
    ran: Path, exported: Path, tmp_path: Path, method: str, ability: str, language: str
) -> None:
    (row,) = [
        row
        for row in table(ran)
        if (row["method"], row["ability"], row["asked"], row["language"])
        == (method, ability, ability, language)
    ]
    subprocess.run(
        [
            *(Path(sys.executable).with_name("lm_eval"), "--model", "hf"),
            *("--model_args", f"pretrained={row['model_path']},dtype=float32"),
            *("--tasks", row["task"], "--include_path", row["task_path"]),
            *("--batch_size", "16", "--device", "cpu"),
            *("--log_samples", "--output_path", tmp_path),
        ],
        check=True,
        capture_output=True,
    )
    (log,) = tmp_path.rglob("samples_*.jsonl")
    theirs = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    theirs.sort(key=lambda sample: sample["doc_id"])
    key = query(ran, f"SELECT cell FROM placements WHERE method = '{method}' AND "
                     f"ability = '{ability}' AND asked = ability AND "
                     f"language = '{language}'")[0][0]  # fmt: skip
    ours = query(
        ran,
        "SELECT item, prompt, output, extracted, loglikelihoods, correct FROM items "
        f"WHERE cell = '{key}' ORDER BY item",
    )
    assert len(ours) == len(theirs) == row["n"]
    for (item, prompt, output, extracted, likelihoods, correct), sample in zip(
        ours, theirs, strict=True
    ):
        assert item == sample["doc_id"]
        assert prompt == sample["arguments"]["gen_args_0"]["arg_0"]
        if ability == "math":
            # transformers drops the space before the first word and special tokens, vLLM keeps them
            plain = re.sub(r"</?\w+>", "", output).strip()
            assert plain == sample["resps"][0][0].strip()
            assert extracted == sample["filtered_resps"][0]
            assert correct == bool(sample["exact_match"])
        else:
            assert likelihoods == pytest.approx(
                [float(response[0][0]) for response in sample["resps"]], abs=1e-3
            )
            assert correct == bool(sample["acc"])
    (folder,) = exported.glob(f"nano__{method}-{ability}-*")
    same_files(folder, log.parent, row["task"], ran)


def test_the_leaderboard_shows_the_table(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit.testing.v1 import AppTest

    monkeypatch.setenv("MAEC_HOME", str(ran))
    page = AppTest.from_file(str(CHECKOUT / "leaderboard" / "app.py"), default_timeout=60).run()
    assert not page.exception
    placed = store.placed()
    own = placed[placed["asked"] == placed["ability"]]
    shown = page.dataframe[0].value.set_index("method")
    assert set(shown.index) == set(METHODS)
    for (method, language), score in (
        own[own["ability"] == "math"].set_index(["method", "language"])["score"].items()
    ):
        assert shown.loc[method, language] == pytest.approx(100 * score)
    assert "no verdict on models of 8B" in page.caption[0].value


def test_the_leaderboard_opens_before_the_first_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamlit.testing.v1 import AppTest

    page = AppTest.from_file(str(CHECKOUT / "leaderboard" / "app.py"), default_timeout=60).run()
    assert not page.exception
    assert "make matrix" in page.info[0].value


def test_real_mgsm_questions_go_through_end_to_end(tmp_path: Path, real_data: Path) -> None:
    home = tmp_path / "mgsm"
    shipped = CHECKOUT / "harness" / "matrices" / "mgsm-local.yaml"
    matrix = yaml.safe_load(shipped.read_text(encoding="utf-8")) | {"languages": ["zh", "te"]}
    matrix["tasks"]["mgsm"]["files"] = str(real_data / "mgsm" / "mgsm_{language}.tsv")
    (tmp_path / "mgsm.yaml").write_text(yaml.safe_dump(matrix), encoding="utf-8")
    done = subprocess.run(
        ["make", "matrix", f"MATRIX={tmp_path / 'mgsm.yaml'}"],
        cwd=CHECKOUT,
        env=environment(home),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for language in ("en", "zh", "te"):
        lines = (real_data / "mgsm" / f"mgsm_{language}.tsv").read_text(encoding="utf-8")
        rows = [line.split("\t") for line in lines.splitlines()]
        items = query(
            home,
            "SELECT prompt, output, extracted, gold FROM items i JOIN placements p ON "
            f"p.cell = i.cell WHERE p.language = '{language}' ORDER BY item",
        )
        assert len(items) == len(rows) == 250
        for (prompt, output, extracted, gold), (question, number) in zip(items, rows, strict=True):
            assert question in prompt
            assert output is not None and extracted is not None
            assert float(gold) == float(number.replace(",", ""))
