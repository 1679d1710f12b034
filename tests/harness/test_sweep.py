"""A sweep cannot see test items, keeps to its budget, and goes on where it stopped."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from rich.console import Console

from harness import cli, methods, store, streams, sweep, tasks
from harness import search as searching
from harness.failed import Failed
from harness.home import store_path
from harness.identity import digest
from harness.live import Answer
from harness.run import run
from harness.spec import ROLES, Matrix, load_matrix
from harness.spec_machine import Engine
from harness.steps import Step
from harness.streams import stored
from harness.sweep_table import by_sweep, chosen
from maec.errors import InputError
from tests.conftest import CHECKOUT, NANO, environment
from tests.harness.test_tasks import matrix_file

SETTINGS = {
    "documents": {"general": 9, "pivot": 9, "ability": 9, "translated": 9},
    "training": {role: {"steps": 1, "learning_rate": 0.001} for role in ROLES},
}
QUIET = Console(quiet=True)


def embedded(folder: Path, **changes: object) -> Matrix:
    values = {
        "languages": ["te", "es"],
        "abilities": ["math", "science"],
        "methods": ["base", "tv", "layer-swap", "f-cpt-a"],
        **SETTINGS,
        **changes,
    }
    return load_matrix(matrix_file(folder, **values))


def local(folder: Path, dev: dict[str, list[str]] | None, **changes: object) -> Matrix:
    """Test questions 0 to 3 of each language in files, and ``dev`` ones by language."""
    test = {code: [f"{code} {i}?" for i in range(4)] for code in FRESH}
    for split, questions in (("test", test), ("dev", dev or {})):
        for code, own in questions.items():
            text = "".join(f"{question}\t{i}\n" for i, question in enumerate(own))
            (folder / f"{split}_{code}.tsv").write_text(text, encoding="utf-8")
    files = {"files": "test_{language}.tsv", "max_gen_toks": 64}
    files |= {"dev_files": "dev_{language}.tsv"} if dev else {}
    values = {"abilities": ["mine"], "tasks": {"mine": files}, "methods": ["tv"], **changes}
    return embedded(folder, **values)


def fresh(code: str) -> list[str]:
    return [f"{code} dev {i}?" for i in range(4)]


FRESH = {code: fresh(code) for code in ("en", "te", "es")}


# --- no test item ------------------------------------------------------------------------------


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test as soon as an engine or a worker process is started."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("work began")

    monkeypatch.setattr(searching, "start_executor", refuse)


def recorded(query: str) -> list[tuple]:
    with duckdb.connect(str(store_path()), read_only=True) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize("language", ["te", "es"])
def test_one_test_question_among_the_dev_questions_is_refused_before_any_work(
    home: Path, tmp_path: Path, idle: None, language: str
) -> None:
    dev = FRESH | {language: [*fresh(language)[:3], f"{language} 2?"]}
    matrix = local(tmp_path, dev)
    wanted = sweep.sweeps(matrix, ["tv"])
    with pytest.raises(InputError, match="1 of these dev questions are test questions") as caught:
        searching.run(matrix, wanted, 4, QUIET)
    assert "\n" not in str(caught.value)
    assert recorded("SELECT count(*) FROM sweeps") == [(0,)]
    assert recorded("SELECT count(*) FROM sweep_questions") == [(0,)]
    assert recorded("SELECT count(*) FROM trials") == [(0,)]
    assert not (home / "artifacts").exists()


def test_the_command_refuses_it_in_one_line_with_exit_code_2(
    home: Path,
    tmp_path: Path,
    idle: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    matrix = local(tmp_path, FRESH | {"te": ["te 0?"]})
    monkeypatch.setattr(sys, "argv", ["harness", "sweep", str(matrix.file), "--budget", "4"])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "test questions" in error


def a_sweep(key: str) -> dict[str, Any]:
    return {
        "key": key, "matrix": "m", "method": "tv", "ability": "math", "seed": 0, "space": {},
        "start": {}, "languages": ["te"], "items": 1, "sampler": "TPE", "versions": {},
        "commit": None, "created": "2024-10-10",
    }  # fmt: skip


def test_the_store_does_not_open_a_sweep_for_a_test_question(home: Path) -> None:
    with store.writer() as writer:
        writer.claim_questions("test", ["a", "b"], "matrix.yaml")
        with pytest.raises(InputError, match="1 of these dev questions are test"):
            writer.begin_sweep(a_sweep("s"), ["c", "b"], "matrix.yaml")
    assert recorded("SELECT count(*) FROM sweeps") == [(0,)]
    assert recorded("SELECT count(*) FROM sweep_questions") == [(0,)]
    assert recorded("SELECT question FROM questions ORDER BY question") == [("a",), ("b",)]


def test_no_sql_puts_a_test_question_into_a_sweep(home: Path) -> None:
    with store.writer() as writer:
        writer.claim_questions("test", ["a"], "matrix.yaml")
        writer.begin_sweep(a_sweep("s"), ["b"], "matrix.yaml")
    insert = "INSERT INTO sweep_questions (sweep, question, split) VALUES ('s', ?, ?)"
    with duckdb.connect(str(store_path())) as connection:
        with pytest.raises(duckdb.ConstraintException, match="CHECK"):
            connection.execute(insert, ["a", "test"])
        with pytest.raises(duckdb.ConstraintException, match=r"(?i)foreign key"):
            connection.execute(insert, ["a", "dev"])
        with pytest.raises(duckdb.ConstraintException, match=r"(?i)foreign key"):
            connection.execute("INSERT INTO sweep_questions (sweep, question) VALUES ('s', 'a')")
        with pytest.raises(duckdb.ConstraintException, match=r"(?i)foreign key"):
            connection.execute(insert, ["never claimed", "dev"])
        # nor can a question that a sweep used be turned into a test question
        with pytest.raises(duckdb.ConstraintException, match=r"(?i)foreign key"):
            connection.execute("UPDATE questions SET split = 'test' WHERE question = 'b'")
        with pytest.raises(duckdb.ConstraintException, match=r"(?i)key"):
            connection.execute("INSERT INTO questions VALUES ('b', 'test')")
        connection.execute("INSERT INTO questions VALUES ('c', 'dev')")
        connection.execute(insert, ["c", "dev"])


def test_what_a_sweep_used_is_no_test_question_ever_after(home: Path, tmp_path: Path) -> None:
    with store.writer() as writer:
        writer.begin_sweep(a_sweep("s"), ["b"], "matrix.yaml")
        with pytest.raises(InputError, match="1 of these test questions are dev questions"):
            writer.claim_questions("test", ["a", "b"], "matrix.yaml")
    assert recorded("SELECT question, split FROM questions") == [("b", "dev")]


def test_a_matrix_that_asks_what_a_sweep_used_is_refused(
    home: Path, tmp_path: Path, search: "Search"
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    matrix = local(first, FRESH)
    search(matrix, ["tv"], 1)
    asked = local(second, None, methods=["base"])
    (second / "test_te.tsv").write_text("te 0?\t1\nte dev 3?\t2\n", encoding="utf-8")
    with pytest.raises(InputError, match="1 of these test questions are dev questions"):
        run(asked, QUIET)
    assert recorded("SELECT count(*) FROM runs") == [(0,)]
    assert recorded("SELECT count(*) FROM questions WHERE split = 'dev'") == [(8,)]


# --- the search, with a made-up engine ---------------------------------------------------------


@dataclass
class Search:
    """Runs sweeps on an engine that is none; ``stop_after`` trials it is interrupted."""

    value: Callable[[Path, str], float] = lambda folder, language: (
        int(digest([folder.name, language])[:6], 16) / 16**6
    )
    stop_after: int | None = None
    starts: int = 0
    asked: list[tasks.Task] = field(default_factory=list)
    told: int = 0

    def __call__(self, matrix: Matrix, names: list[str], budget: int, **options: Any) -> list:
        wanted = sweep.sweeps(matrix, names, **options)
        assert searching.run(matrix, wanted, budget, QUIET).failures == {}
        found = by_sweep(store.trials())
        return [found[entry.key] for entry in wanted]

    pool: Any = field(default_factory=lambda: SimpleNamespace(reports=SimpleQueue()))

    @contextmanager
    def executor(self, *_: object) -> Iterator[tuple[Any, "Search"]]:
        self.starts += 1
        yield self.pool, self

    def ask(self, _: Engine, base: Step, model: Step, asked: list[tasks.Task]) -> Future[Answer]:
        self.asked += asked
        results = {
            task.name: SimpleNamespace(
                score=self.value(model.folder, task.language),
                items=[{"correct": True} for _ in task.docs],
            )
            for task in asked
        }
        answer = Future()
        answer.set_result(Answer(0.0, results=results))
        return answer


@dataclass
class Pool:
    """Workers on which every step diverges."""

    submitted: list[str] = field(default_factory=list)
    reports: SimpleQueue = field(default_factory=SimpleQueue)

    def submit(self, step: Step) -> Future:
        self.submitted.append(step.label)
        failed = Future()
        failed.set_exception(Failed("diverged"))
        return failed


@pytest.fixture
def search(home: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    made = Search()

    def record(writer: store.Writer, trial: dict) -> None:
        if made.stop_after is not None and made.told >= made.stop_after:
            raise KeyboardInterrupt
        made.told += 1
        real(writer, trial)

    real = store.Writer.record_trial
    monkeypatch.setattr(store.Writer, "record_trial", record)
    monkeypatch.setattr(searching, "start_executor", made.executor)
    monkeypatch.setattr(searching, "stored", lambda step: [])
    return made


def points(trials: list[dict]) -> list[tuple]:
    return [(t["number"], t["parameters"], t["score"], t["by_language"]) for t in trials]


def test_a_sweep_asks_the_dev_questions_and_none_of_the_tests(
    tmp_path: Path, search: Search
) -> None:
    matrix = embedded(tmp_path, languages=["es", "zh", "bn", "te"])
    found = search(matrix, [], 2, items=40)
    assert {(f[0]["method"], f[0]["ability"]) for f in found} == {
        (method, ability)
        for method in ("tv", "layer-swap", "f-cpt-a")
        for ability in ("math", "science")
    }

    def questions(split: str, ability: str, items: int | None) -> set[str]:
        asked = matrix.model_copy(update={"split": split, "items": items})
        return {
            question
            for language in matrix.languages
            for question in tasks.task(asked, ability, language).questions
        }

    test = {a: questions("test", a, None) for a in matrix.abilities}
    assert all(len(asked) > 4 * 200 for asked in test.values())
    for trials in found:
        (sweep_key,) = {trial["sweep"] for trial in trials}
        rows = recorded(f"SELECT question FROM sweep_questions WHERE sweep = '{sweep_key}'")
        own = {question for (question,) in rows}
        assert own == questions("dev", trials[0]["ability"], 10)
        assert own.isdisjoint(test["math"] | test["science"])
        assert trials[0]["items"] == len(own) == 40
    asked = {question for task in search.asked for question in task.questions}
    assert asked == questions("dev", "math", 10) | questions("dev", "science", 10)
    claimed = {question for (question,) in recorded("SELECT question FROM questions "
                                                    "WHERE split = 'test'")}  # fmt: skip
    assert claimed == test["math"] | test["science"]


def test_the_matrix_own_point_comes_first_and_the_budget_is_the_same_for_all(
    tmp_path: Path, search: Search
) -> None:
    entries = [{"name": "tv", "scale": 0.75}, {"name": "f-cpt-a", "label": "mine"}]
    matrix = embedded(tmp_path, methods=entries, abilities=["math"])
    tv, ability = search(matrix, [], 11)
    # five rates are all that there is to try for the other
    assert [len(tv), len(ability)] == [11, 5]
    assert tv[0]["parameters"] == {"rate": 1.0, "scale": 0.75, "language_scale": 1.0}
    assert ability[0]["parameters"] == {"rate": 1.0}
    assert [trial["number"] for trial in tv] == list(range(11))
    assert search.starts == 1
    for trials in (tv, ability):
        space = methods.load(trials[0]["method"].replace("mine", "f-cpt-a")).space
        assert len({json.dumps(trial["parameters"]) for trial in trials}) == len(trials)
        for trial in trials:
            assert trial["parameters"].keys() == space.keys()
            for name, value in trial["parameters"].items():
                where = space[name]
                assert value in where if name == "rate" else where.low <= value <= where.high
            assert trial["score"] == pytest.approx(sum(trial["by_language"].values()) / 2)
            assert list(trial["by_language"]) == ["te", "es"]


def test_a_sweep_that_is_done_does_nothing_more(tmp_path: Path, search: Search) -> None:
    matrix = embedded(tmp_path)
    before = search(matrix, ["tv"], 3)
    search.starts = 0
    assert search(matrix, ["tv"], 3) == before
    assert search(matrix, ["tv"], 2) == before
    assert search.starts == 0
    more = search(matrix, ["tv"], 5)
    assert [trials[:3] for trials in more] == before
    assert [len(trials) for trials in more] == [5, 5]


def test_what_failed_by_its_own_fault_is_remembered_and_not_tried_again(
    tmp_path: Path, search: Search
) -> None:
    matrix = embedded(tmp_path, abilities=["math"])
    wanted = sweep.sweeps(matrix, ["tv"])

    def run(**options: bool) -> tuple[dict[str, str], int, int]:
        asked = len(search.asked)
        outcome = searching.run(matrix, wanted, 3, QUIET, **options)
        return outcome.failures, outcome.untried, len(search.asked) - asked

    def remembered() -> list[tuple]:
        return [(f["what"], f["label"], f["message"], f["times"]) for f in store.failures()]

    def no_answer(folder: Path, language: str) -> float:
        raise Failed("a bad model", lasting)

    works, search.value, lasting = search.value, no_answer, False
    for times in (1, 2):  # what may pass is tried again
        assert run() == ({"tv math": "a bad model"}, 0, 2)
        assert remembered() == [("cell", "tv math trial 0", "a bad model", times)]
    lasting = True
    assert run() == ({"tv math": "a bad model"}, 0, 2)
    assert run() == ({"tv math": "a bad model"}, 1, 0)
    assert run(retry_failed=True) == ({"tv math": "a bad model"}, 0, 2)
    assert remembered() == [("cell", "tv math trial 0", "a bad model", 4)]
    search.value = works
    assert run() == ({"tv math": "a bad model"}, 1, 0)
    assert run(retry_failed=True) == ({}, 0, 6) and remembered() == []


def test_a_step_that_failed_before_fails_the_sweeps_that_need_it(
    tmp_path: Path, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = embedded(tmp_path, abilities=["math"])
    wanted = sweep.sweeps(matrix, ["tv"])
    failing = Pool()
    monkeypatch.setattr(search, "pool", failing)
    monkeypatch.setattr(searching, "stored", streams.stored)

    def run(**options: bool) -> tuple[int, int]:
        outcome = searching.run(matrix, wanted, 1, QUIET, **options)
        assert outcome.failures.keys() == {"tv math"}
        assert outcome.failures["tv math"].endswith(
            ("en: diverged", "te: diverged", "es: diverged")
        )
        return outcome.untried, len(failing.submitted)

    assert run() == (0, 3)
    assert {(f["what"], f["message"], f["lasting"]) for f in store.failures()} == {
        ("step", "diverged", True)
    }
    assert run() == (1, 3)
    assert run(retry_failed=True) == (0, 6)


@pytest.mark.parametrize("stop_after", [0, 1, 5, 12, 21])
def test_an_interrupted_sweep_goes_on_as_if_it_had_never_stopped(
    tmp_path: Path, home: Path, search: Search, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    # more trials than are tried at random, and finite spaces: one of 5 points, one of 15
    matrix = embedded(tmp_path, abilities=["math"], methods=["tv", "f-cpt-a", "layer-swap"])
    search.stop_after = stop_after
    with pytest.raises(KeyboardInterrupt):
        search(matrix, [], 14)
    assert recorded("SELECT count(*) FROM trials") == [(stop_after,)]
    search.stop_after = None
    resumed = [points(trials) for trials in search(matrix, [], 14)]
    monkeypatch.setenv("MAEC_HOME", str(tmp_path / "undisturbed"))
    assert [points(trials) for trials in search(matrix, [], 14)] == resumed
    assert [len(trials) for trials in resumed] == [14, 5, 14]


def test_the_search_learns_from_what_it_has_seen(tmp_path: Path, search: Search) -> None:
    matrix = embedded(tmp_path, abilities=["math"], methods=["tv"])

    def toward(folder: Path, language: str) -> float:
        point = at[folder.name]
        return -((point["scale"] - 0.6) ** 2) - (point["language_scale"] - 0.3) ** 2

    at: dict[str, dict] = {}
    real = sweep.Sweep.models

    def models(self: sweep.Sweep, parameters: dict) -> dict:
        found = real(self, parameters)
        at.update({step.folder.name: dict(parameters) for step in found.values()})
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep.Sweep, "models", models)
        search.value = toward
        (trials,) = search(matrix, [], 40)
    at_random = [trial["score"] for trial in trials[1 : searching.STARTUP]]
    late = [trial["score"] for trial in trials[30:]]
    assert sum(late) / len(late) > sum(at_random) / len(at_random)


@pytest.mark.parametrize("rate", [1.0, 0.25, 3.0])
def test_a_finite_space_ends_when_all_of_it_was_tried(
    tmp_path: Path, search: Search, rate: float
) -> None:
    entries = [{"name": "f-cpt-a", "rate": rate}]
    matrix = embedded(tmp_path, abilities=["math"], methods=entries)
    (trials,) = search(matrix, [], 8)
    tried = [trial["parameters"]["rate"] for trial in trials]
    assert sorted(tried) == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert tried[0] == rate or rate == 3.0
    (again,) = search(matrix, [], 8)
    assert again == trials


def test_a_budget_below_a_finite_space_tries_points_from_all_over_it(
    tmp_path: Path, search: Search
) -> None:
    matrix = embedded(tmp_path, abilities=["math"], methods=["f-cpt-la"])
    (trials,) = search(matrix, [], 10)
    tried = [tuple(trial["parameters"].values()) for trial in trials]
    assert len(set(tried)) == 10
    # in order, the first ten of twenty would have half of the repeats alone
    assert all(len(set(values)) > 3 for values in zip(*tried, strict=True))


def test_two_entries_that_make_the_same_models_share_their_sweep(
    tmp_path: Path, search: Search
) -> None:
    entries = [{"name": "tv", "label": scope, "scope": scope} for scope in ("all", "language")]
    matrix = embedded(tmp_path, languages=["te"], abilities=["math"], methods=entries)
    first, second = search(matrix, [], 3)
    assert first == second and len(first) == 3


def test_what_a_trial_trained_is_recorded_however_late_its_manifest_comes_back(
    tmp_path: Path, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[Future] = []

    class Pool:
        reports = SimpleQueue()

        def submit(self, step: Step) -> Future:
            step.folder.mkdir(parents=True)
            (step.folder / "manifest.json").write_text("{}")
            running.append(Future())
            return running[-1]

    @contextmanager
    def executor(*_: object) -> Iterator[Any]:
        yield Pool(), search

    real = searching.Schedule.ended
    calls = []

    def late(self: searching.Schedule, timeout: float) -> Iterator:
        calls.append(timeout)
        if len(calls) % 3 == 0:
            while running:
                running.pop().set_result({"seconds": 2.0, "fingerprint": "f"})
        return real(self, 0)

    monkeypatch.setattr(searching, "start_executor", executor)
    monkeypatch.setattr(searching, "stored", stored)
    monkeypatch.setattr(searching.Schedule, "ended", late)
    matrix = embedded(tmp_path, abilities=["math"])
    (trials,) = search(matrix, ["f-cpt-a"], 3)
    assert [trial["training_seconds"] for trial in trials] == [2.0] * 3
    assert recorded("SELECT count(*) FROM artifacts") == [(3,)]


def test_the_chosen_point_is_the_best_and_the_first_among_equals() -> None:
    scores = [0.25, 0.5, 0.75, 0.5, 0.75, 0.0]
    trials = [{"number": number, "score": score} for number, score in enumerate(scores)]
    for order in (trials, trials[::-1]):
        assert chosen(order) == {"number": 2, "score": 0.75}


def test_another_seed_or_more_items_are_another_sweep(tmp_path: Path, home: Path) -> None:
    matrix = embedded(tmp_path, seeds=[3, 4])
    keys = {
        sweep.sweeps(matrix, ["tv"], abilities=["math"], items=items, seed=seed)[0].key
        for items, seed in ((20, None), (20, 4), (40, None))
    }
    assert len(keys) == 3
    (plain,) = sweep.sweeps(matrix, ["tv"], abilities=["math"], items=20)
    assert plain.seed == 3
    assert sweep.sweeps(matrix, ["tv"], abilities=["math"], items=20, seed=3)[0].key == plain.key


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "names", "abilities", "expected"),
    [
        ({}, ["tvv"], [], "methods: there is no 'tvv'; did you mean 'tv'?"),
        ({}, ["tv"], ["maths"], "abilities: there is no 'maths'; did you mean 'math'?"),
        ({}, ["base"], [], "method 'base': it declares no SEARCH"),
        ({"variants": [{"label": "half"}]}, ["tv"], [], "variants: a sweep needs one point"),
    ],
)
def test_what_cannot_be_swept_is_refused_in_one_line(
    home: Path, tmp_path: Path, changes: dict, names: list, abilities: list, expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        sweep.sweeps(embedded(tmp_path, **changes), names, abilities=abilities)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not home.exists()


def test_a_matrix_of_local_questions_needs_dev_files_for_sweeps_and_for_the_dev_split(
    home: Path, tmp_path: Path
) -> None:
    matrix = local(tmp_path, None)
    for refused in (
        lambda: sweep.sweeps(matrix, ["tv"]),
        lambda: local(tmp_path, None, split="dev"),
    ):
        with pytest.raises(InputError, match=r"tasks\.mine: there are no dev questions") as caught:
            refused()
        assert "\n" not in str(caught.value)
    assert not home.exists()
    matrix = local(tmp_path, FRESH, split="dev")
    assert [doc["question"] for doc in tasks.task(matrix, "mine", "te").docs] == FRESH["te"]


# --- spaces ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", methods.available())
def test_a_method_searches_only_what_its_build_takes(name: str) -> None:
    method = methods.load(name)
    assert method.space or name not in ("maec", "tv", "ties", "layer-swap", "f-cpt-a", "f-cpt-la")
    for parameter, where in method.space.items():
        values = where if isinstance(where, tuple) else (where.low, where.high)
        for value in values:
            assert method.check_parameters({parameter: value}) == {parameter: value}


def test_an_ablation_does_not_search_what_it_settles() -> None:
    searched = methods.load("maec").space.keys()
    for name, settled in (
        ("no-mask", {"k1", "importance"}),
        ("no-select", {"k2"}),
        ("no-beta", {"beta"}),
    ):
        assert methods.load(f"maec-{name}").space.keys() == searched - settled


# --- for real ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sweep_streams_its_merges_and_is_done_once(ran: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(ran, home)

    def search() -> list[list[dict]]:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "harness.cli", "sweep", NANO, "--json"),
                *("--method", "tv", "--method", "f-cpt-a", "--ability", "math"),
                *("--budget", "2", "--items", "8"),
            ],
            cwd=CHECKOUT,
            env=environment(home),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    def artifacts(kind: str) -> set[str]:
        return {path.name for path in (home / "artifacts" / kind).iterdir()}

    kinds = {path.name for path in (home / "artifacts").iterdir()}
    before = {kind: artifacts(kind) for kind in kinds}
    found = search()
    assert [(trials[0]["method"], len(trials)) for trials in found] == [("f-cpt-a", 2), ("tv", 2)]
    for trials in found:
        assert trials[0]["items"] == 8
        for trial in trials:
            assert len(trial["correct"]) == 8
            # two items of each of four languages
            assert sum(trial["correct"]) == pytest.approx(8 * trial["score"])
    # the ability model at each other rate was trained; no merge was written
    rates = {trial["parameters"].get("rate", 1.0) for trials in found for trial in trials}
    assert {path.name for path in (home / "artifacts").iterdir()} == kinds
    after = {kind: artifacts(kind) for kind in kinds}
    assert len(after.pop("train") - before.pop("train")) == len(rates - {1.0}) > 0
    assert after == before
    trained = artifacts("train")
    assert search() == found
    assert artifacts("train") == trained
    with duckdb.connect(str(home / "store.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (4,)
