"""Costs: counted by hand, added up, blank where nothing is known, and as a run recorded them."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from harness import cost, steps, world
from harness.cost import costs
from harness.methods import ties
from harness.parts import Parts
from harness.plan import make_plan
from harness.spec import Matrix, load_matrix
from harness.steps import Step
from maec.errors import InputError
from tests.conftest import CHECKOUT, NANO, environment
from tests.maec.checkpoints import llama, write

TOKENS = {
    "language": 30, "languages": 70, "ability": 110, "joint": 130, "locate": 170,
    "key_neurons": 190, "pivot": 230,
}  # fmt: skip
"""Of one run of each role; batches of 2 sequences of 5 tokens."""

LANGUAGES = 3
ABILITIES = 2
# each ability has key neurons of its own, and therefore a pivot run of its own
PACK = TOKENS["locate"] + TOKENS["key_neurons"] + TOKENS["pivot"]

EXPECTED = {
    "base": 0,
    "f-cpt-a": ABILITIES * TOKENS["ability"],
    "f-cpt-la": ABILITIES * TOKENS["joint"],
    "tv": ABILITIES * TOKENS["ability"] + LANGUAGES * TOKENS["language"],
    "maec": ABILITIES * PACK + LANGUAGES * TOKENS["language"],
}


def matrix(**changes: object) -> Matrix:
    training = {
        role: {
            "steps": tokens // 10,
            "batch_size": 2,
            "sequence_length": 5,
            "learning_rate": 1e-3,
        }
        for role, tokens in TOKENS.items()
    }
    content = {
        "name": "tiny",
        "languages": ["es", "te", "zh"],
        "abilities": ["math", "science"],
        "methods": [name for name in EXPECTED if name != "maec"]
        + [{"name": "maec", "scope": "language"}],
        "seeds": [0, 1],
        "items": 2,
        "documents": {"general": 5, "pivot": 5, "ability": 5, "translated": 5},
        "training": training,
    }
    return Matrix.model_validate({**content, **changes})


def of(found: dict, name: str) -> dict[str, float | None]:
    return {label: method[name] for label, method in found["methods"].items()}


def base_parameters() -> int:
    with safe_open(world.EMBEDDED_BASE / "model.safetensors", framework="np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.offset_keys())


def score(monkeypatch: pytest.MonkeyPatch, rows: Sequence[tuple]) -> None:
    """As if these were all scores: (method, language, score) or with the ability asked about."""
    table = [
        {"method": method, "ability": "math", "language": language, "score": value}
        | ({"asked": asked[0]} if asked else {})
        for method, language, value, *asked in rows
    ]
    monkeypatch.setattr(cost, "rows", lambda _: table)


def test_tokens_and_flops_are_those_counted_by_hand_a_mean_over_seeds(home: Path) -> None:
    found = costs(make_plan(matrix()))
    assert of(found, "tokens") == EXPECTED
    size = base_parameters()
    assert of(found, "flops") == {name: 6 * size * tokens for name, tokens in EXPECTED.items()}
    assert found["base"][0]["parameters"] == size


def test_each_ability_alone_costs_its_own_steps_and_all_language_models(home: Path) -> None:
    found = costs(make_plan(matrix()))["abilities"]
    assert found.keys() == {"math", "science"}
    for alone in found.values():
        assert of(alone, "tokens") == {
            "base": 0,
            "f-cpt-a": 110,
            "f-cpt-la": 130,
            "tv": 110 + 90,
            "maec": PACK + 90,
        }


def test_a_shared_step_counts_whole_for_each_and_is_split_evenly_beside(home: Path) -> None:
    found = costs(make_plan(matrix()))
    fair = {label: method["fair"]["tokens"] for label, method in found["methods"].items()}
    assert fair == pytest.approx(
        {
            "base": 0,
            "f-cpt-a": 220 / 2,  # with tv
            "f-cpt-la": 260,
            "tv": 220 / 2 + 90 / 2,  # the language models with maec
            "maec": 2 * PACK + 90 / 2,
        }
    )
    assert found["total"]["tokens"] == 220 + 260 + 90 + 2 * PACK


METHODS = ["base", "f-cpt-l", "f-cpt-a", "tv", "ties", "linear", "maec", "maec-no-beta"]


@given(
    names=st.lists(st.sampled_from(METHODS), min_size=1, unique=True),
    scope=st.sampled_from(["all", "language"]),
    seeds=st.lists(st.integers(0, 9), min_size=1, max_size=2, unique=True),
    languages=st.lists(st.sampled_from(["es", "te", "zh"]), min_size=1, unique=True),
)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_fair_shares_add_up_to_the_matrix_and_never_exceed_the_whole(
    home: Path, names: list[str], scope: str, seeds: list[int], languages: list[str]
) -> None:
    methods = [{"name": name, "scope": scope} for name in names]
    found = costs(make_plan(matrix(methods=methods, seeds=seeds, languages=languages)))
    for view in (found, *found["abilities"].values()):
        for name in ("tokens", "flops"):
            fair = [method["fair"][name] for method in view["methods"].values()]
            assert sum(fair) == pytest.approx(view["total"][name])
            whole = of(view, name).values()
            assert all(part <= all_of_it for part, all_of_it in zip(fair, whole, strict=True))
            assert max(whole) <= view["total"][name] <= sum(whole)


def test_one_more_language_costs_maec_one_language_model_and_joint_training_everything(
    home: Path,
) -> None:
    found = costs(make_plan(matrix()))
    added = {label: each["tokens"] for label, each in of(found, "added_language").items()}
    assert added == {"base": 0, "f-cpt-a": 0, "f-cpt-la": 260, "tv": 30, "maec": 30}
    flops = found["methods"]["maec"]["added_language"]["flops"]
    assert flops == pytest.approx(6 * base_parameters() * 30)


def test_with_one_language_nothing_is_said_of_one_more(home: Path) -> None:
    found = costs(make_plan(matrix(languages=["te"])))
    assert set(of(found, "added_language").values()) == {None}


def test_nothing_is_said_either_where_a_method_does_not_do_with_fewer_languages(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def needs_three(parts: Parts, ability: str, **parameters: object) -> Step:
        if 0 < len(parts.languages) < 3:
            raise InputError("matrix.yaml: languages: ties needs three")
        return parts.ability_model(ability)

    monkeypatch.setattr(ties, "build", needs_three)
    found = costs(make_plan(matrix(methods=["f-cpt-a", "ties"])))
    assert of(found, "tokens") == {"f-cpt-a": 220, "ties": 220}
    assert set(of(found, "added_language").values()) == {None}


def test_all_plans_read_the_bases_weights_once_but_notice_a_change(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write(tmp_path / "base", llama(np.random.default_rng(0)))
    read = []
    fingerprint = world.fingerprint
    monkeypatch.setattr(
        world, "fingerprint", lambda *a, **k: read.append(a) or fingerprint(*a, **k)
    )
    mine = matrix(base=str(base))
    costs(make_plan(mine))
    assert len(read) == 1
    before = make_plan(mine).cells[0].model.key
    shutil.rmtree(base)
    write(base, llama(np.random.default_rng(1)))
    assert make_plan(mine).cells[0].model.key != before


def test_what_was_never_run_is_unknown_and_not_zero(home: Path) -> None:
    found = costs(make_plan(matrix()))
    for name in ("seconds", "bytes", "peak_memory", "trainable_flops", "trainable_share"):
        own = of(found, name)
        # the base needs no step at all
        assert own.pop("base") in (0, None)
        assert set(own.values()) == {None}, name
        assert found["total"][name] is None
    assert found["reference"] is None
    assert set(of(found, "accuracy").values()) == {None}
    assert set(of(found, "cost_share").values()) == {None}
    assert found["methods"]["maec"]["added_language"]["seconds"] is None
    assert not home.exists()


def test_shares_are_of_the_most_accurate_method_that_trains_and_of_target_scores(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(matrix(abilities=["math"], languages=["te"]))
    own = [("base", 0.9), ("f-cpt-a", 0.2), ("tv", 0.6), ("maec", 0.8), ("f-cpt-la", None)]
    other = [("tv", "te", 1.0, "science"), ("tv", "en", 1.0), ("maec", "te", None, "science")]
    score(monkeypatch, [(method, "te", value) for method, value in own] + other)
    found = costs(plan)
    assert found["reference"] == "maec"
    shares = of(found, "accuracy_share")
    assert shares == pytest.approx(
        {"base": 0.9 / 0.8, "f-cpt-a": 0.25, "f-cpt-la": None, "tv": 0.75, "maec": 1.0}
    )
    assert of(found, "cost_share")["tv"] == pytest.approx((110 + 30) / (PACK + 30))
    named = costs(plan, "tv")
    assert of(named, "accuracy_share")["maec"] == pytest.approx(0.8 / 0.6)
    assert of(named, "cost_share")["f-cpt-a"] == pytest.approx(110 / 140)


def test_a_reference_that_costs_nothing_has_no_cost_to_compare_with(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(matrix(abilities=["math"], languages=["te"]))
    score(monkeypatch, [("base", "te", 0.5), ("tv", "te", 1.0)])
    found = costs(plan, "base")
    assert of(found, "accuracy_share")["tv"] == 2
    assert set(of(found, "cost_share").values()) == {None}


def test_an_unknown_reference_is_refused_with_the_nearest_name(home: Path) -> None:
    with pytest.raises(InputError, match=r"'meac' is no method .* did you mean 'maec'\?"):
        costs(make_plan(matrix()), "meac")


def test_a_base_that_is_made_on_demand_is_no_methods_cost(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(steps.VERSIONS, "pretrain", 1)
    base = Step("pretrain", {"training": {"steps": 9}}, label="made here")
    monkeypatch.setattr(world, "base_step", lambda _: base)
    before = costs(make_plan(matrix()))
    assert of(before, "tokens") == EXPECTED
    assert before["methods"]["tv"]["flops"] is None  # nobody knows yet how large it is
    shutil.copytree(world.EMBEDDED_BASE, base.folder)
    (base.folder / "manifest.json").write_text(json.dumps({"seconds": 60, "tokens": 99}))
    after = costs(make_plan(matrix()))
    assert after["methods"]["tv"]["flops"] == 6 * base_parameters() * EXPECTED["tv"]
    assert after["methods"]["base"]["seconds"] == 0
    (made,) = after["base"]
    assert (made["label"], made["seconds"], made["tokens"]) == ("made here", 60, 99)


def harness(*arguments: str, home: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments],
        cwd=CHECKOUT,
        env=environment(home),
        capture_output=True,
        text=True,
    )


def test_the_command_prints_a_table_with_blanks_and_imports_nothing_heavy(home: Path) -> None:
    program = f"""
import sys
from harness import cli
heavy = {{"torch", "pandas", "transformers", "vllm"}} & set(sys.modules)
assert not heavy, heavy
sys.argv = ["harness", "cost", {NANO!r}]
try:
    cli.main()
except SystemExit as done:
    assert not done.code, done.code
heavy = {{"torch", "transformers", "vllm"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        env=environment(home),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "│ f-cpt-a " in line]
    shown = [cell.strip() for cell in line.split("│")[1:-1]]
    # two runs of four steps of eight sequences of 64 tokens, half of it tv's; 1,217,408 parameters
    assert base_parameters() == 1_217_408
    assert shown[:3] == ["f-cpt-a", "4,096", "3.0e10"]
    assert shown[3:7] == ["", "", "", ""]
    assert shown[7:] == ["1.5e10", "0", "0", "", ""]
    assert "Seconds and memory depend on the machine" in " ".join(done.stdout.split())


@pytest.mark.parametrize("arguments", [["no-such.yaml"], [NANO, "--reference", "nobody"]])
def test_the_command_refuses_bad_input_in_one_line(home: Path, arguments: list[str]) -> None:
    done = harness("cost", *arguments, home=home)
    assert done.returncode == 2
    assert done.stderr.startswith("harness: ") and done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def nano(ran: Path) -> dict:
    """What the command says of the nano matrix after its run."""
    done = harness("cost", NANO, "--json", home=ran)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def query(home: Path, sql: str) -> list[tuple]:
    with duckdb.connect(str(home / "snapshot.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.slow
def test_a_run_matrix_costs_what_its_artifacts_say(ran: Path, nano: dict) -> None:
    sums = """sum((manifest ->> '$.seconds')::DOUBLE), sum((manifest ->> '$.bytes')::BIGINT),
              max((manifest ->> '$.peak_memory')::BIGINT), sum((manifest ->> '$.tokens')::BIGINT)"""
    for condition, found in (
        ("true", nano["total"]),
        ("kind = 'train' AND label LIKE 'ability %'", nano["methods"]["f-cpt-a"]),
        ("kind = 'train' AND label LIKE 'joint %'", nano["methods"]["f-cpt-la"]),
        ("label LIKE 'ability science%' AND kind = 'train'",
         nano["abilities"]["science"]["methods"]["f-cpt-a"]),
    ):  # fmt: skip
        ((seconds, size, peak, tokens),) = query(
            ran, f"SELECT {sums} FROM artifacts WHERE {condition}"
        )
        assert found["seconds"] == pytest.approx(seconds)
        assert (found["bytes"], found["peak_memory"], found["tokens"]) == (size, peak, tokens)


@pytest.mark.slow
def test_a_run_matrix_knows_how_much_was_trainable_and_every_share(nano: dict) -> None:
    trainable = of(nano, "trainable_share")
    assert trainable["f-cpt-a"] == trainable["t-cpt"] == 1
    assert 0 < trainable["l-cpt-la"] < 0.5
    assert 0.4 < trainable["maec"] < 1  # its key neurons, and all of its language models
    reference = nano["methods"][nano["reference"]]
    assert reference["accuracy"] == max(
        method["accuracy"] for label, method in nano["methods"].items() if label != "base"
    )
    assert reference["cost_share"] == 1
    fair = [method["fair"]["seconds"] for method in nano["methods"].values()]
    assert sum(fair) == pytest.approx(nano["total"]["seconds"])


@pytest.mark.slow
def test_figures_outlive_the_artifacts(ran: Path, nano: dict, home: Path) -> None:
    home.mkdir()
    shutil.copy(ran / "snapshot.duckdb", home / "snapshot.duckdb")
    assert costs(make_plan(load_matrix(CHECKOUT / NANO))) == nano
