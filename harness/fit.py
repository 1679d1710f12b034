"""Do all prompts, and the answers that they may get, fit the engine?

lm-eval cuts a prompt that is too long from the left, which takes examples or the question itself,
and only logs it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.evaluate import Questions, load, seeded
from harness.spec_machine import Engine
from harness.steps import Step
from harness.tasks import Task
from harness.world import EMBEDDED_BASE, require_code_allowed
from maec import hub
from maec.errors import InputError

_TOKENIZER = ("tokenizer*", "vocab*", "merges.txt", "*.model", "*.jinja", "*.json")
"""Files of a model from which its tokenizer can be made."""

_SPECIAL = 8
"""Special tokens that may stand around a text."""


def require_fit(tasks: Iterable[Task], bases: Iterable[Step], engine: Engine, where: str) -> None:
    """Refuse tasks of which the engine would be asked a part, or which it could not be asked.

    Tasks and bases may be there more than once. ``bases`` are the models whose tokenizers count,
    which need not be made yet; ``where`` is the matrix file, for errors.

    Raises:
        InputError: a prompt and its answer take more than ``max_model_len`` tokens, or a chat
            template is asked for and the tokenizer has none.
    """
    asked = {task.key: task for task in tasks}
    if not asked:
        return
    questions = load(list(asked.values()))
    from transformers import AutoTokenizer

    unlike = {base.key: base for base in bases}.values()
    for folder, base in {_tokenizer_folder(base): base for base in unlike}.items():
        require_code_allowed(base, folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=base.runs_code)
        for task in questions.tasks:
            if task.chat_template and not tokenizer.chat_template:
                raise InputError(
                    f"{where}: tasks.{task.ability}.chat_template: the base's tokenizer has no "
                    "chat template; leave it out, or take a base that has one"
                )
            _require_room(questions, task, tokenizer, engine.max_model_len, where)


def _require_room(questions: Questions, task: Task, tokenizer: Any, room: int, where: str) -> None:
    requests = [
        (text, answer)
        for text, answer in _requests(questions, task, tokenizer)
        # no tokenizer makes more tokens than bytes
        if len(text.encode()) + _SPECIAL + answer > room
    ]
    if not requests:
        return
    lengths = map(len, tokenizer([text for text, _ in requests]).input_ids)
    length, answer = max(zip(lengths, (answer for _, answer in requests), strict=True), key=sum)
    if length + answer > room:
        generates = task.config["output_type"] == "generate_until"
        answers = f"{answer} for its answer (max_gen_toks)" if generates else "1 to be scored"
        raise InputError(
            f"{where}: engine.max_model_len: the longest prompt of {task.name} has {length} tokens "
            f"and needs {answers}, {length + answer} in all; max_model_len is {room}: raise it, or "
            f"lower {'max_gen_toks or ' if generates else ''}num_fewshot"
        )


def _requests(questions: Questions, task: Task, tokenizer: Any) -> Iterator[tuple[str, int]]:
    """What lm-eval will send: texts, and how many tokens each may be answered with."""
    template = _chat_template(tokenizer) if task.chat_template else None
    for part in task.parts:
        loaded = seeded(questions.loaded["tasks"][part.name])
        loaded.build_all_requests(
            apply_chat_template=task.chat_template,
            fewshot_as_multiturn=task.chat_template,
            chat_template=template,
        )
        longest: dict[int, str] = {}
        for request in loaded.instances:
            if request.request_type == "generate_until":
                yield request.args[0], request.args[1]["max_gen_toks"]
            elif request.request_type == "loglikelihood":
                # the choices of a question differ little: the longest stands for all
                known = longest.get(request.doc_id, "")
                longest[request.doc_id] = max(known, "".join(request.args), key=len)
        yield from ((text, 1) for text in longest.values())


def _chat_template(tokenizer: Any) -> Callable[..., str]:
    """What lm-eval's models make of messages; InputError where a template cannot."""
    from jinja2 import TemplateError

    def apply(messages: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
        try:
            return tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        except TemplateError as error:  # it is the model's, and runs in a sandbox
            raise InputError(
                f"{tokenizer.name_or_path}: the chat template fails: {error}; leave chat_template "
                "out, or take a base whose template works"
            ) from None

    return apply


def _tokenizer_folder(base: Step) -> Path:
    """Where a base's tokenizer is, or that of the base that it will be made like."""
    if base.here:
        return base.folder
    if base.kind == "pretrain":
        return EMBEDDED_BASE
    revision = base.settings["revision"]
    model = base.settings["model"] + (f"@{revision}" if revision else "")
    return hub.local_folder(hub.as_source(model), _TOKENIZER)
