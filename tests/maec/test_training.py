"""``maec train``: a file that says what a run is, and its mistakes in one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from maec import cli
from maec.errors import InputError
from maec.train import train
from maec.training import load_training

from .checkpoints import llama, read_torch, same_bits, write
from .test_train import DOCUMENTS, settings

SETTINGS = {"steps": 3, "learning_rate": 0.02, "batch_size": 4, "sequence_length": 12}


@pytest.fixture
def file(tmp_path: Path, rng: np.random.Generator) -> Path:
    write(tmp_path / "base", llama(rng))
    lines = [json.dumps({"text": document}) for document in DOCUMENTS[1:]]
    (tmp_path / "first.txt").write_text(DOCUMENTS[0])
    (tmp_path / "rest.jsonl").write_text("\n".join(lines))
    return write_file(tmp_path)


def write_file(folder: Path, **changed: object) -> Path:
    text = {"start": "base", "text": ["first.txt", "rest.jsonl"], "settings": SETTINGS}
    (folder / "training.yaml").write_text(yaml.safe_dump({**text, **changed}))
    return folder / "training.yaml"


def test_a_file_trains_what_it_says(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = file.parent / "out"
    monkeypatch.setattr(sys, "argv", ["maec", "train", str(file), str(out)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    told = capsys.readouterr()
    assert told.out.startswith(f"{out}: done; 144 tokens in ")
    assert "step 3 of 3: loss " in told.err
    train(file.parent / "base", iter(DOCUMENTS), file.parent / "same", settings(steps=3))
    assert same_bits(read_torch(out), read_torch(file.parent / "same"))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"strat": "base"}, "unknown key 'strat'; did you mean 'start'?"),
        (
            {"settings": {**SETTINGS, "learning_rat": 1}},
            "unknown key 'settings.learning_rat'; did you mean 'learning_rate'?",
        ),
        ({"text": ["first.pdf"]}, "first.pdf is none of .txt, .jsonl"),
        ({"text": ["none.txt"]}, "there is no file "),
    ],
)
def test_mistakes_are_told_in_one_line(file: Path, changed: dict, told: str) -> None:
    with pytest.raises(InputError) as error:
        load_training(write_file(file.parent, **changed))
    assert str(error.value).startswith(f"{file}: ")
    assert told in str(error.value) and "\n" not in str(error.value)


def test_text_that_is_none_is_named_with_its_line(file: Path) -> None:
    from maec.training import run

    (file.parent / "rest.jsonl").write_text('{"text": "w1"}\n{"texts": "w2"}\n')
    with pytest.raises(InputError, match=r"rest.jsonl: line 2: no JSON object with the key 'text'"):
        run(load_training(file), file.parent / "out", None)
    assert not (file.parent / "out").exists()
