"""Keys depend on what makes a result, and on nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.identity import IDENTITY, KNOB, digest, identity
from harness.parts import Parts
from harness.spec_machine import Engine
from harness.steps import Step
from maec.settings import TrainSettings

SETTINGS = {"steps": 3, "learning_rate": 0.1}


def parts(**changes: object) -> Parts:
    values = {
        "base": Step("base", {"fingerprint": "f"}),
        "pivot": "en",
        "languages": ("es", "te"),
        "documents": {"general": 5, "pivot": 5, "ability": 5, "translated": 5},
        "training": {role: TrainSettings(**SETTINGS) for role in ("ability", "language")},
        "seed": 0,
        "generator": "text of {}".format,
        "where": "matrix.yaml",
    }
    return Parts(**{**values, **changes})


def test_every_field_of_the_engine_is_declared_identity_or_knob() -> None:
    for name, field in Engine.model_fields.items():
        roles = [mark for mark in (IDENTITY, KNOB) if mark in field.metadata]
        assert len(roles) == 1, f"engine.{name} must be marked IDENTITY or KNOB"


def test_every_training_setting_goes_into_the_key() -> None:
    changed = {
        "steps": 4, "learning_rate": 0.2, "batch_size": 3, "sequence_length": 7,
        "embedding_lr_multiplier": 2.0, "weight_decay": 0.5, "warmup_ratio": 0.2,
        "min_lr_ratio": 0.3, "adam_beta2": 0.9, "max_grad_norm": 2.0, "lora_rank": 4,
        "record_gradient": True, "precision": "bfloat16", "dtype": "bfloat16",
        "micro_batch_size": 1, "gradient_checkpointing": True,
    }  # fmt: skip
    # the seed is the matrix's, and tested below
    assert changed.keys() | {"seed"} == TrainSettings.model_fields.keys()
    plain = parts().ability_model(["math"]).key
    for name, value in changed.items():
        training = {"ability": TrainSettings(**{**SETTINGS, name: value})}
        assert parts(training=training).ability_model(["math"]).key != plain, name


def test_a_knob_does_not_change_identity_and_an_identity_field_does() -> None:
    plain = identity(Engine())
    assert identity(Engine(max_num_seqs=7, kv_cache_gib=2)) == plain
    assert identity(Engine(tensor_parallel_size=2, pipeline_parallel_size=2)) == plain
    assert identity(Engine(quantization="fp8_per_tensor")) != plain
    # the keys that scores had before there was any quantisation
    assert plain == {"kind": "vllm", "dtype": "float32", "max_model_len": 1024}
    assert identity(Engine(dtype="bfloat16")) != plain
    assert identity(Engine(kind="transformers")) != plain


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"generator": "other text of {}".format},
        {"base": Step("base", {"fingerprint": "other"})},
        {"documents": {"general": 5, "pivot": 5, "ability": 6, "translated": 5}},
    ],
)
def test_a_step_is_another_step_when_anything_it_is_made_from_changes(change: dict) -> None:
    assert parts(**change).ability_model(["math"]).key != parts().ability_model(["math"]).key


def test_adding_a_language_leaves_the_other_language_models_alone() -> None:
    before = parts().language_models()
    after = parts(languages=("es", "te", "zh")).language_models()
    assert {code: step.key for code, step in before.items()} == {
        code: after[code].key for code in before
    }


def test_labels_and_paths_are_no_part_of_a_key() -> None:
    assert (
        Step("base", {"fingerprint": "f"}, label="a").key
        == Step("base", {"fingerprint": "f"}, label="b").key
    )


@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict) -> None:
    backwards = dict(reversed(list(value.items())))
    assert digest(value) == digest(backwards)
