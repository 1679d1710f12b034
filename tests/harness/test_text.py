"""Text from files and data sets: which documents a run reads, in which order, and what it is told.

Expected documents are read from the same files by json and pyarrow alone.
"""

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from harness.sources import TextSource
from harness.steps import Place
from harness.text import ORDER, Reading, identified, mixed
from maec.errors import InputError
from tests.conftest import CHECKOUT
from tests.harness.hub_world import data_set, lines, parquet
from tests.maec.hub_server import Hub, serve

ROWS = [{"id": i, "text": f"document number {i} of all", "more": i % 3} for i in range(50)]


class Words:
    """A tokenizer of one id a word."""

    def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[1] * len(text.split()) for text in texts]}


@pytest.fixture(autouse=True)
def quiet_home(home: Path) -> None:
    """Whatever is cached goes to a home of the test's own."""


def read(
    folder: Path,
    documents: int | None = 1000,
    tokens: int | None = None,
    *,
    seed: int = 0,
    passes: int = 1,
    **source: object,
) -> Reading:
    found, place = identified(TextSource(**source), folder)
    corpus = {"documents": documents, "tokens": tokens, "seed": seed, "source": found}
    return Reading(corpus, place, Words(), passes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same rows as JSON lines, as Parquet, as a data set of three shards, as files of text."""
    lines(tmp_path / "rows.jsonl", ROWS)
    parquet(tmp_path / "rows-0.parquet", ROWS[:30])
    parquet(tmp_path / "rows-1.parquet", ROWS[30:])
    data_set(tmp_path / "set", "es", [ROWS[:20], ROWS[20:40], ROWS[40:]], "cc-by-sa-4.0")
    for row in ROWS[:12]:
        (tmp_path / f"text-{row['id']:02}.txt").write_text(row["text"] + "\n\nand a second line\n")
    return tmp_path


SOURCES = {
    "lines": {"files": "rows.jsonl"},
    "Parquet": {"files": "rows-?.parquet"},
    "a data set": {"dataset": "set", "name": "es"},
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_every_form_gives_its_documents_and_unshuffled_in_their_order(
    folder: Path, source: dict
) -> None:
    assert list(read(folder, shuffle=0, **source)) == [row["text"] for row in ROWS]


@pytest.mark.parametrize("source", [SOURCES["lines"], SOURCES["a data set"]], ids=str)
def test_shuffled_documents_are_the_same_in_an_order_of_their_seed(
    folder: Path, source: dict
) -> None:
    drawn = list(read(folder, seed=3, **source))
    assert drawn != [row["text"] for row in ROWS]
    assert sorted(drawn) == sorted(row["text"] for row in ROWS)
    assert list(read(folder, seed=3, **source)) == drawn
    assert list(read(folder, seed=4, **source)) != drawn


def test_the_order_is_the_one_that_keys_stand_for(folder: Path) -> None:
    """Where this fails, raise harness.text.ORDER: a seed shuffles differently from now on."""
    drawn = list(itertools.islice(read(folder, shuffle=20, seed=3, **SOURCES["a data set"]), 12))
    numbers = [int(text.split()[2]) for text in drawn]
    assert (ORDER, numbers) == (1, [4, 44, 46, 22, 21, 45, 25, 2, 42, 41, 5, 9])


def test_a_file_of_text_is_one_document(folder: Path) -> None:
    found = list(read(folder, files="text-*.txt", shuffle=0))
    assert found == [(folder / f"text-{i:02}.txt").read_text() for i in range(12)]


def test_a_template_puts_fields_together_and_what_has_no_text_is_left_out(tmp_path: Path) -> None:
    rows = [
        {"q": "1+1?", "a": "2"},
        {"q": None, "a": "3"},
        {"q": "", "a": ""},
        {"q": "x", "a": "y"},
    ]
    lines(tmp_path / "math.jsonl", rows)
    asked = read(tmp_path, files="math.jsonl", text="{q}\n{a}", shuffle=0)
    assert list(asked) == ["1+1?\n2", "x\ny"]
    assert list(read(tmp_path, files="math.jsonl", text="a", shuffle=0)) == ["2", "3", "y"]


def test_a_budget_of_documents_or_of_tokens_ends_the_reading_whichever_is_first(
    folder: Path,
) -> None:
    def counts(documents: int | None, tokens: int | None) -> tuple[int, int]:
        reading = read(folder, documents, tokens, files="rows.jsonl")
        texts = list(reading)
        assert reading.documents == len(texts)
        assert reading.tokens == sum(len(text.split()) for text in texts)
        return reading.documents, reading.tokens

    assert counts(7, None) == (7, 35)
    assert counts(None, 33) == (7, 35)  # the document that reaches the budget is read to its end
    assert counts(3, 33) == (3, 15)
    assert counts(40, 33) == (7, 35)


def test_a_stream_is_read_no_further_than_it_is_asked_for(folder: Path) -> None:
    reading = read(folder, files="rows.jsonl")
    assert len(list(itertools.islice(iter(reading), 5))) == 5
    assert reading.documents == 5


def test_corpora_are_mixed_by_their_budgets_however_early_one_stops(tmp_path: Path) -> None:
    for name, count in (("a", 600), ("b", 200), ("c", 90)):
        lines(tmp_path / f"{name}.jsonl", [{"text": f"{name} {i}"} for i in range(count)])
    budgets = {"a": 600, "b": 200, "c": 100}

    def stream() -> list[Reading]:
        return [read(tmp_path, most, files=f"{name}.jsonl") for name, most in budgets.items()]

    for stop in (9, 90, 450):
        found = Counter(text[0] for text in itertools.islice(mixed(stream()), stop))
        assert {name: found[name] * 900 // stop for name in budgets} == budgets
    # c has less than its budget, and the others go on without it
    assert Counter(text[0] for text in mixed(stream())) == {"a": 600, "b": 200, "c": 90}


def test_what_is_to_be_read_twice_comes_at_twice_the_rate_and_not_twice_in_a_row(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        lines(tmp_path / f"{name}.jsonl", [{"text": f"{name} {i}"} for i in range(30)])
    twice = [read(tmp_path, 30, files="a.jsonl", passes=2), read(tmp_path, 30, files="b.jsonl")]
    found = list(mixed(twice))
    early = Counter(found[:45])
    assert sum(n for text, n in early.items() if text[0] == "a") == 30
    assert set(early.values()) == {1}
    assert Counter(found) == {f"a {i}": 2 for i in range(30)} | {f"b {i}": 1 for i in range(30)}


# identity


def key(folder: Path, **source: object) -> dict:
    return identified(TextSource(**source), folder)[0]


def test_files_are_known_by_what_they_hold_and_not_by_where_they_lie(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "moved.jsonl").write_bytes((folder / "rows.jsonl").read_bytes())
    (folder / "set").rename(elsewhere / "mirror")
    assert key(elsewhere, files="moved.jsonl") == key(folder, files="rows.jsonl")
    before = key(elsewhere, dataset="mirror", name="es")
    assert str(elsewhere) not in json.dumps(before)
    lines(elsewhere / "moved.jsonl", [*ROWS, {"text": "one more"}])
    assert key(elsewhere, files="moved.jsonl") != key(folder, files="rows.jsonl")
    (elsewhere / "mirror" / ".git").mkdir()
    (elsewhere / "mirror" / ".git" / "index").write_text("what a clone has beside its files")
    assert key(elsewhere, dataset="mirror", name="es") == before
    (elsewhere / "mirror" / "data" / "es-00003-of-00003.jsonl").write_bytes(b"more")
    assert key(elsewhere, dataset="mirror", name="es") != before


def test_what_decides_the_text_is_in_the_key_and_the_licence_is_not(tmp_path: Path) -> None:
    plain = {"dataset": "org/wiki@abc", "name": "es", "licence": "cc0"}
    changed = {
        "dataset": "org/wiki@abd", "name": "te", "split": "test", "text": "{title}", "shuffle": 0,
    }  # fmt: skip
    for name, value in changed.items():
        assert key(tmp_path, **{**plain, name: value}) != key(tmp_path, **plain), name
    assert key(tmp_path, **{**plain, "licence": None}) == key(tmp_path, **plain)
    # every field is told apart above, or only says where text lies or how languages are called
    assert changed.keys() | {"licence", "files", "names"} == TextSource.model_fields.keys()


def test_a_language_stands_where_its_name_is_asked_for() -> None:
    source = TextSource(dataset="org/{language}", name="2023.{language}", names={"es": "spa"})
    spanish, telugu = source.of("es"), source.of("te")
    assert (spanish.dataset, spanish.name) == ("org/spa", "2023.spa")
    assert (telugu.dataset, telugu.name) == ("org/te", "2023.te")


# what is refused


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"files": "rows.jsonl", "text": "txt"}, ["rows.jsonl", "no field 'txt'", "id, text"]),
        ({"dataset": "set", "name": "te"}, ["set", "'te' not found", "es"]),
        ({"dataset": "set", "name": "es", "split": "dev"}, ["set", "dev", "train"]),
        ({"files": "broken.jsonl"}, ["broken.jsonl"]),
        ({"files": "nested.jsonl", "text": "turns"}, ["'turns' holds no text but a list"]),
        ({"files": "text-*.jsonl"}, ["text-*.jsonl", "no such file"]),
        ({"dataset": "nowhere"}, ["nowhere", "neither a folder here nor a hub id"]),
    ],
)
def test_text_that_cannot_be_read_is_named_in_one_line(
    folder: Path, source: dict, expected: list[str]
) -> None:
    (folder / "broken.jsonl").write_text('{"text": \n')
    lines(folder / "nested.jsonl", [{"turns": [{"role": "user"}]}])
    with pytest.raises(InputError) as caught:
        list(read(folder, **source))
    assert "\n" not in str(caught.value)
    for part in expected:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({}, "give one of the keys"),
        ({"files": "a.jsonl", "dataset": "b/c"}, "give one of the keys"),
        ({"files": "a.csv"}, "ends in none of .txt, .jsonl, .parquet"),
        ({"files": "a.jsonl", "name": "es"}, "belongs to a 'dataset'"),
        ({"files": "a.jsonl", "text": "{q} {0}"}, "a template names fields"),
        ({"files": "a.jsonl", "text": "{q.real}"}, "a template names fields"),
        ({"files": "a.jsonl", "text": "{q"}, "no template"),
    ],
)
def test_a_source_that_says_too_little_or_too_much_is_refused(source: dict, expected: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).*") as caught:
        TextSource(**source)
    assert expected in str(caught.value)


def test_the_manifest_says_what_was_read_and_on_what_terms(folder: Path) -> None:
    reading = read(folder, 5, dataset="set", name="es")
    list(reading)
    told = reading.as_json()
    assert told["read"] == {"documents": 5, "tokens": 25}
    assert told["licence"] == "cc-by-sa-4.0"  # the card's
    said = read(folder, 5, dataset="set", name="es", licence="mine")
    list(said)
    assert said.as_json()["licence"] == "mine"
    assert Place() == Place((), None)


# a hub


READ = """
import json, sys
from pathlib import Path
from harness.sources import TextSource
from harness.text import Reading, identified
from maec.errors import InputError
from tests.harness.test_text import Words
found, place = identified(TextSource(dataset=sys.argv[1], name="es"), Path())
reading = Reading({"documents": 7, "tokens": None, "seed": 3, "source": found}, place, Words())
try:
    print(json.dumps({"texts": list(reading), **reading.as_json()}))
except InputError as error:
    print(error)
"""
DOWNLOAD = """
import sys
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], repo_type="dataset")
"""


@pytest.mark.slow
def test_a_data_set_on_a_hub_is_streamed_and_read_without_a_network_once_it_is_here(
    folder: Path,
) -> None:
    with serve(Hub()) as hub:
        commit = hub.add("datasets/org/wiki", folder / "set")

        def run(program: str, dataset: str, **more: str) -> str:
            settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf")}
            settings |= {"HF_HUB_DISABLE_XET": "1", "MAEC_HOME": str(folder / "home")}
            done = subprocess.run(
                [sys.executable, "-c", program, dataset],
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT), **settings, **more},
            )
            assert done.returncode == 0, done.stderr
            assert done.stdout.count("\n") <= 1
            return done.stdout

        streamed = json.loads(run(READ, "org/wiki"))
        assert streamed["texts"] == list(read(folder, 7, seed=3, **SOURCES["a data set"]))
        assert streamed["commit"] == commit
        assert streamed["source"]["revision"] is None
        # what streaming leaves behind is no data set
        refused = run(READ, "org/wiki", HF_HUB_OFFLINE="1")
        assert refused.startswith("org/wiki: HF_HUB_OFFLINE is set")
        assert "no such data set" in run(READ, "org/nothing")
        run(DOWNLOAD, "org/wiki")
        asked = len(hub.asked)
        here = json.loads(run(READ, f"org/wiki@{commit}"))
        assert here["texts"] == streamed["texts"] and len(hub.asked) == asked
        offline = json.loads(run(READ, "org/wiki", HF_HUB_OFFLINE="1"))
        assert offline["texts"] == streamed["texts"] and offline["licence"] == "cc-by-sa-4.0"
