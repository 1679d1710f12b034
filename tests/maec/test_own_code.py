"""Code that a model brings is not run, wherever it is named."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from maec.errors import InputError
from maec.own_code import require_allowed

MARK = "own_code_was_run"


def folder(path: Path, file: str, content: Any) -> Path:
    (path / file).write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "content",
    [
        {"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}},
        {"auto_map": {"AutoTokenizer": [None, "tokenization_x.X"]}},
        {"auto_map": "x.X"},
        {"vision_config": {"auto_map": {"AutoConfig": "x.X"}}},
        {"parts": [{"auto_map": {"AutoConfig": "x.X"}}]},
    ],
)
def test_a_config_that_names_code_is_refused_unless_it_is_trusted(
    tmp_path: Path, file: str, content: Any
) -> None:
    with pytest.raises(InputError, match=rf"{file}: auto_map: '.*X' is code .* say so") as caught:
        require_allowed(folder(tmp_path, file, content), False, "say so")
    assert "\n" not in str(caught.value)
    require_allowed(tmp_path, True, "say so")


@pytest.mark.parametrize(
    "content",
    [
        {"auto_map": {"AutoModel": "org/other--modeling_x.X"}},
        {"attn_implementation": "org/kernel"},
        {"text_config": {"_attn_implementation": {"": "org/kernel@main:f"}}},
    ],
)
def test_code_in_another_repository_is_refused_in_any_case(tmp_path: Path, content: Any) -> None:
    for trusted in (False, True):
        with pytest.raises(InputError, match="another repository"):
            require_allowed(folder(tmp_path, "config.json", content), trusted, "say so")


@pytest.mark.parametrize(
    "content",
    [
        {"model_type": "llama"},
        {"attn_implementation": "sdpa"},
        {"auto_map": None},
        {"auto_map": {}},
    ],
)
def test_a_config_that_names_none_is_let_through(tmp_path: Path, content: Any) -> None:
    require_allowed(folder(tmp_path, "config.json", content), False, "say so")
    require_allowed(tmp_path / "nowhere", False, "say so")


def test_nothing_that_loads_a_model_imports_its_code(make: Any, tmp_path: Path) -> None:
    from maec.activations import activation_change
    from maec.dry_run import _from_config
    from maec.settings import TrainSettings
    from maec.train import train

    model = make("m")
    code = f"import sys\nsys.modules[{MARK!r}] = sys\nclass X: pass\n"
    (model / "modeling_x.py").write_text(code)
    config = json.loads((model / "config.json").read_text())
    named = {"AutoConfig": "modeling_x.X", "AutoModelForCausalLM": "modeling_x.X"}
    folder(model, "config.json", {**config, "model_type": "unheard-of", "auto_map": named})
    settings = TrainSettings(steps=1, learning_rate=0.1)
    for load in (
        lambda: train(model, ["text"], tmp_path / "out", settings),
        lambda: activation_change(model, model, ["text"]),
        lambda: _from_config(model),
    ):
        with pytest.raises(InputError, match=r"auto_map: 'modeling_x\.X' is code"):
            load()
    assert MARK not in sys.modules
