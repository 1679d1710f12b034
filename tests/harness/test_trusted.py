"""Code that a model brings runs where its matrix names the model, and nowhere else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import fetch as fetching
from harness import search
from harness.engine import start
from harness.execute import execute, merge_options
from harness.fit import require_fit
from harness.live import Live
from harness.plan import make_plan
from harness.run import run
from harness.spec import Matrix, load_matrix
from harness.spec_machine import Engine
from harness.steps import Step
from harness.streams import tensors
from harness.sweep import sweeps
from maec.console import Console
from maec.errors import InputError
from tests.harness.models import base_step, random_model
from tests.harness.test_tasks import matrix_file

TRAINING = {"steps": 1, "learning_rate": 0.001, "batch_size": 2, "sequence_length": 16}
BUDGETS = {"general": 9, "pivot": 9, "ability": 9, "translated": 9}
ENGINE = {"kind": "transformers", "max_model_len": 128}

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path({mark!r}).touch()

class Config(LlamaConfig):
    model_type = "unheard-of"

class Model(LlamaForCausalLM):
    config_class = Config
"""
TOKENIZER = """
from pathlib import Path
from transformers import PreTrainedTokenizerFast

Path({mark!r}).touch()

class Tokenizer(PreTrainedTokenizerFast):
    pass
"""
GENERATE = """
from pathlib import Path

Path({mark!r}).touch()

def generate(model, *args, **kwargs):
    return type(model).generate(model, *args, **kwargs)
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers copies the code of models into a folder of this test's."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", tmp_path / "modules")
    monkeypatch.syspath_prepend(tmp_path / "modules")


class Own:
    """A checkpoint with a model, a tokenizer and a way to generate of its own, at ``path``.

    Each file of code leaves one in ``ran`` when it is imported. ``kind`` is what its config calls
    the model's class: vLLM has one of its own for LlamaForCausalLM.
    """

    def __init__(self, folder: Path, name: str, seed: int = 0, kind: str = "Model") -> None:
        self.path = random_model(folder, seed).rename(folder / name)
        self._marks = folder / f"{name}-ran"
        self._marks.mkdir()
        self._write("modeling_x.py", CODE)
        self._write("tokenization_x.py", TOKENIZER)
        self._write("custom_generate/generate.py", GENERATE)
        named = {"AutoConfig": "modeling_x.Config", "AutoModelForCausalLM": "modeling_x.Model"}
        self._set("config.json", model_type="unheard-of", architectures=[kind], auto_map=named)
        tokenizer = {"AutoTokenizer": [None, "tokenization_x.Tokenizer"]}
        self._set("tokenizer_config.json", tokenizer_class="Tokenizer", auto_map=tokenizer)

    @property
    def ran(self) -> set[str]:
        return {mark.name for mark in self._marks.iterdir()}

    def _write(self, name: str, code: str) -> None:
        file = self.path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code.format(mark=str(self._marks / file.stem)), encoding="utf-8")

    def _set(self, name: str, **changes: object) -> None:
        file = self.path / name
        file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changes), encoding="utf-8")


def trained(start: Step, **inputs: Step) -> Step:
    return Step("train", {"training": TRAINING, "corpora": []}, {"start": start, **inputs})


def merged(**inputs: Step) -> Step:
    settings = {"method": "linear", "base_model": None, "weights": dict.fromkeys(inputs, 0.5)}
    return Step("mergekit", settings, inputs)


def located(base: Step, model: Step) -> Step:
    """By what the text of the model's training makes of the two."""
    settings = {"importance": "activation", "k1": 0.1, "granularity": "row"}
    settings["corpora"] = model.settings.get("corpora", [])
    return Step("locate", settings, {"base": base, "trained": model}, places=model.places)


def served(base: Step) -> None:
    Live().start(Engine(**ENGINE), base)


@pytest.mark.parametrize(
    "use",
    [
        served,
        lambda model: execute(trained(model)),
        lambda model: execute(located(model, model)),
        lambda model: merge_options(merged(base=model)),
        lambda model: list(tensors(merged(base=model))),
    ],
    ids=["served", "trained", "located", "merged", "streamed"],
)
def test_what_a_plan_did_not_refuse_is_refused_where_it_would_run(
    tmp_path: Path, use: Callable[[Step], None]
) -> None:
    own = Own(tmp_path, "own")
    with pytest.raises(InputError, match=r"_x.* is code that comes with the model, and is not run"):
        use(base_step(own.path))
    assert own.ran == set()


def test_the_questions_of_a_plan_run_no_code(tmp_path: Path) -> None:
    own = Own(tmp_path, "own")
    lines = "".join(f"{n} + 1?\t{n + 1}\n" for n in range(3))
    for language in ("en", "te"):
        (tmp_path / f"q_{language}.tsv").write_text(lines, encoding="utf-8")
    file = matrix_file(tmp_path, tasks={"math": {"files": "q_{language}.tsv"}})
    cells = make_plan(load_matrix(file)).cells
    with pytest.raises(InputError, match="and is not run; read it"):
        require_fit([cell.task for cell in cells], [base_step(own.path)], Engine(), "m.yaml")
    assert own.ran == set()


def test_one_named_model_lets_no_other_run(tmp_path: Path) -> None:
    base, te = Own(tmp_path, "base"), Own(tmp_path, "te", 1)
    named = Step("base", base_step(base.path).settings, path=base.path, trusted=True)
    other = base_step(te.path)
    assert not merged(base=named, te=other).runs_code
    for step in (merged(base=named, te=other), located(named, other), trained(other, mask=named)):
        with pytest.raises(InputError, match=f"{te.path}.* is not run"):
            execute(step) if step.kind != "mergekit" else merge_options(step)
    assert (base.ran, te.ran) == (set(), set())


def test_an_adapter_of_a_base_with_code_is_to_be_named_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Own(tmp_path, "own")
    adapter = tmp_path / "lora"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    base = Step("base", base_step(own.path).settings, path=own.path, named="own", trusted=True)
    settings = {"model": "org/lora", "revision": None}
    step = Step("fetch", settings, {"base": base}, named="org/lora")
    monkeypatch.setattr(fetching, "local_folder", lambda *_, **__: adapter)
    with pytest.raises(InputError, match=f"{own.path}.*add 'org/lora' to engine.trust_remote_c"):
        fetching.fetch(step, tmp_path / "out")
    assert own.ran == set()


def swept(matrix: Matrix, console: Console) -> None:
    search.run(matrix, sweeps(matrix, ["tv"]), 1, console)


@pytest.mark.parametrize("work", [run, swept])
def test_code_on_a_hub_is_refused_before_any_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[Matrix, Console], None]
) -> None:
    own, asked = Own(tmp_path, "own"), []

    def local_folder(source: str, patterns: object = None) -> Path:
        asked.append((source, patterns))
        return own.path

    monkeypatch.setattr(fetching, "local_folder", local_folder)
    given = {"languages": {"te": "org/te"}, "abilities": {"math": "org/math"}}
    file = matrix_file(tmp_path, base="org/base", checkpoints=given, methods=["f-cpt-l", "tv"])
    with pytest.raises(InputError, match="add 'org/base' to engine"):
        work(load_matrix(file), Console(stderr=True))
    assert asked == [("org/base", ("*.json",))] and own.ran == set()


def test_a_list_of_none_is_what_false_stands_for(tmp_path: Path) -> None:
    plans = [
        make_plan(load_matrix(matrix_file(tmp_path, engine={**ENGINE, **said})))
        for said in ({}, {"trust_remote_code": False}, {"trust_remote_code": []})
    ]
    assert len({plan.matrix.engine for plan in plans}) == 1
    assert plans[0].matrix.engine.model_dump(mode="json")["trust_remote_code"] == []
    assert len({tuple(map(plan.key, plan.cells)) for plan in plans}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformers", "vllm"])
def test_an_engine_runs_the_code_of_a_model_if_it_is_told_to(tmp_path: Path, kind: str) -> None:
    settings = Engine(kind=kind, max_model_len=128)
    own = Own(tmp_path, "own", kind="LlamaForCausalLM")
    with pytest.raises((ValueError, RuntimeError), match="trust_remote_code"):
        start(settings, own.path)
    assert own.ran == set()
    engine = start(settings, own.path, runs_code=True)
    assert own.ran >= {"modeling_x", "tokenization_x"}
    engine.switch(own.path)
    engine.stop()


@pytest.mark.slow
def test_a_matrix_runs_the_code_of_a_model_that_it_names(tmp_path: Path) -> None:
    """Where its tokens are counted, where it is trained, compared, merged and served."""
    own = Own(tmp_path, "own")
    text = {"files": "text.jsonl"}
    (tmp_path / "text.jsonl").write_text('{"text": "uno dos tres"}\n' * 9, encoding="utf-8")
    changes = {
        "base": "own",
        "methods": ["tv"],
        "items": 2,
        "documents": BUDGETS,
        "training": {"ability": TRAINING, "language": TRAINING},
        "corpora": {"general": {"*": text}, "ability": {"math": text}},
    }
    with pytest.raises(InputError, match=r"base: .* add 'own' to engine\.trust_remote_code"):
        make_plan(load_matrix(matrix_file(tmp_path, engine=ENGINE, **changes)))
    assert own.ran == set()
    engine = {**ENGINE, "trust_remote_code": ["own"]}
    plan = make_plan(load_matrix(matrix_file(tmp_path, engine=engine, **changes)))
    for step in plan.steps:
        if step.kind == "train":
            execute(step)
    assert own.ran == {"modeling_x", "tokenization_x", "generate"}
    cell = plan.cells[0]
    execute(located(cell.base, cell.model.inputs["math"]))
    answer = Live().answer(cell.engine, cell.base, cell.model, [cell.task])
    assert answer.failures == {} and answer.results[cell.task.name].n == 2
