"""Answers have room: neither a prompt nor a solution of the usual length is cut."""

import math
from pathlib import Path

import pytest
import yaml

from harness import tasks
from harness.evaluate import load
from harness.fit import _chat_template, require_fit
from harness.spec import load_matrix
from harness.spec_machine import Engine
from harness.steps import Step
from harness.tasks.asked import MAX_GEN_TOKS
from maec.errors import InputError
from tests.harness.test_tasks import MGSM, local_matrix, matrix_file


@pytest.fixture(scope="module")
def bytewise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that makes a token of every byte, the most that any does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE({one: n for n, one in enumerate(alphabet)}, []))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokens.decoder = decoders.ByteLevel()
    folder = tmp_path_factory.mktemp("bytewise")
    PreTrainedTokenizerFast(tokenizer_object=tokens).save_pretrained(folder)
    return folder


def solution_per_question() -> float:
    """How many times as long as its question a worked solution is, at most.

    From the eight English examples of chain of thought that MGSM translated, which lm-eval has in
    its gsm8k_cot: on the whole they are as long as their questions, the longest is 1.65 times.
    """
    import lm_eval.tasks

    path = Path(lm_eval.tasks.__file__).parent / "gsm8k" / "gsm8k-cot.yaml"
    samples = yaml.safe_load(path.read_text(encoding="utf-8"))["fewshot_config"]["samples"]
    ratios = [len(one["target"]) / len(one["question"]) for one in samples]
    assert len(ratios) == 8 and 1 < max(ratios) < 2
    return max(ratios)


@pytest.mark.parametrize("language", ["te", "bn"])
def test_the_limit_cuts_no_solution_of_a_real_question_even_byte_by_byte(
    home: Path, tmp_path: Path, real_data: Path, bytewise: Path, language: str
) -> None:
    from transformers import AutoTokenizer

    files = str(real_data / "mgsm" / "mgsm_{language}.tsv")
    task = tasks.task(local_matrix(tmp_path, "mgsm", files, MGSM), "mgsm", language)
    assert task.config["generation_kwargs"]["max_gen_toks"] == MAX_GEN_TOKS
    tokenizer, ratio = AutoTokenizer.from_pretrained(bytewise), solution_per_question()
    taken = []
    for doc in task.docs:
        question = doc["question"]
        solution = (question * 2)[: math.ceil(ratio * len(question))]
        taken.append(len(tokenizer(solution).input_ids))
        assert taken[-1] == len(solution.encode())
    assert len(taken) == 250 and 2000 < max(taken) <= MAX_GEN_TOKS


def test_a_prompt_and_answer_that_do_not_fit_are_refused_with_both_numbers(
    home: Path, tmp_path: Path, real_data: Path, bytewise: Path
) -> None:
    files = str(real_data / "mgsm" / "mgsm_{language}.tsv")
    matrix = local_matrix(tmp_path, "mgsm", files, MGSM)
    task = tasks.task(matrix, "mgsm", "te")
    loaded = load([task]).loaded["tasks"][task.name]
    longest = max(len(loaded.doc_to_text(doc).encode()) for doc in loaded.test_docs())
    base = Step(kind="base", settings={"fingerprint": "f"}, label="base", path=bytewise)
    require_fit([task], [base], Engine(max_model_len=longest + MAX_GEN_TOKS), "matrix.yaml")
    with pytest.raises(InputError) as caught:
        engine = Engine(max_model_len=longest + MAX_GEN_TOKS - 1)
        require_fit([task], [base], engine, "matrix.yaml")
    message = str(caught.value)
    assert message.startswith("matrix.yaml: engine.max_model_len: the longest prompt of mgsm_")
    assert f"{longest} tokens" in message and f"{MAX_GEN_TOKS} for its answer" in message
    assert "\n" not in message


def test_choices_need_room_for_themselves_alone(home: Path, tmp_path: Path, bytewise: Path) -> None:
    matrix = load_matrix(matrix_file(tmp_path, abilities=["science"], items=20))
    task = tasks.task(matrix, "science", "te")
    texts = [f"{doc['question']} {choice}" for doc in task.docs for choice in doc["choices"]]
    longest = max(len(text.encode()) for text in texts)
    base = Step(kind="base", settings={"fingerprint": "f"}, label="base", path=bytewise)
    require_fit([task], [base], Engine(max_model_len=longest + 1), "matrix.yaml")
    with pytest.raises(InputError, match=f"has {longest} tokens and needs 1 to be scored"):
        require_fit([task], [base], Engine(max_model_len=longest), "matrix.yaml")


@pytest.mark.parametrize(
    "template",
    ["{{ ''.__class__.__mro__ }}", "{% for", "{{ raise_exception('no') }}", "{{ messages.x.y }}"],
)
def test_a_chat_template_reaches_nothing_of_python_and_fails_in_one_line(
    bytewise: Path, template: str
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bytewise)
    tokenizer.chat_template = template
    with pytest.raises(InputError, match="the chat template fails: ") as caught:
        _chat_template(tokenizer)([{"role": "user", "content": "hello"}])
    assert "\n" not in str(caught.value)
