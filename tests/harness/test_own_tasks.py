"""lm-eval's own tasks on data sets in the hub's format: what we send and score is what it does."""

import csv
import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pandas as pd
import pytest
from rich.console import Console

from harness import doctor, tasks
from harness import engine as engines
from harness.evaluate import Result, evaluate, load
from harness.fit import require_fit
from harness.plan import make_plan
from harness.spec import Matrix, load_matrix
from harness.spec_machine import Engine
from harness.world import EMBEDDED_BASE, base_step
from maec.errors import Damaged, InputError
from tests.harness import hub_data
from tests.harness.test_tasks import MGSM, MSVAMP, matrix_file

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders in the hub's format, by the ids that lm-eval knows them by."""
    folder = tmp_path_factory.mktemp("hub")
    arc = {"train": hub_data.m_arc("train", 9), "test": hub_data.m_arc("test", 7)}
    arc["val"] = [*hub_data.m_arc("val", 4), arc["test"][2] | {"id": "val/of-the-test"}]
    ai2 = {s: hub_data.ai2_arc(s, 6) for s in ("train", "validation", "test")}
    mmlu = {s: hub_data.m_mmlu(s, 6) for s in ("train", "val", "test")}
    subjects = {"dev": hub_data.global_mmlu("dev", 3), "test": hub_data.global_mmlu("test", 2)}
    test = [
        {"question": f"How many are {n} and 1?", "answer": None, "answer_number": n + 1}
        for n in range(5)
    ]
    mgsm = {"train": hub_data.mgsm_examples(), "test": test}
    return {
        "alexandrainst/m_arc": hub_data.dataset(folder / "m_arc", {"te": arc}),
        "allenai/ai2_arc": hub_data.dataset(folder / "ai2_arc", {"ARC-Challenge": ai2}),
        "alexandrainst/m_mmlu": hub_data.dataset(folder / "m_mmlu", {"te": mmlu, "en": mmlu}),
        "CohereForAI/Global-MMLU": hub_data.dataset(
            folder / "global", {"te": subjects, "en": subjects}
        ),
        "juletxara/mgsm": hub_data.dataset(folder / "mgsm", {"te": mgsm, "en": mgsm}),
    }


@pytest.fixture(scope="module")
def live() -> Iterator[engines.Engine]:
    yield engines.start(Engine(kind="transformers", max_model_len=1024), EMBEDDED_BASE)


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval compiles a task's templates anew for every question."""
    from lm_eval import utils

    monkeypatch.setattr(utils.env, "from_string", cache(utils.env.from_string))


@pytest.fixture
def stand_in(hub: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Hub ids stand for the folders."""
    real = datasets.load_dataset

    def load_dataset(path: str, name: str | None = None, **options: Any) -> Any:
        return real(str(hub.get(path, path)), name, **options)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


def matrix(folder: Path, ability: str = "science", languages: str = "te", **task: Any) -> Matrix:
    return load_matrix(
        matrix_file(folder, abilities=[ability], languages=[languages], tasks={ability: task})
    )


def fetched(asked: Matrix, language: str = "te") -> tasks.Task:
    tasks.fetch(asked, Console(quiet=True))
    return tasks.task(asked, asked.abilities[0], language)


def lm_eval_result(
    lm: Any, name: str, shots: int, folder: str, chat: bool = False
) -> tuple[dict, dict]:
    """What lm-eval's own evaluation says of its own task: results, and samples by task."""
    import lm_eval.tasks
    from lm_eval.evaluator import evaluate as ask
    from lm_eval.tasks import TaskManager

    place = Path(lm_eval.tasks.__file__).parent / folder
    loaded = TaskManager(include_path=str(place), include_defaults=False).load([name])
    for task in loaded["tasks"].values():
        task.set_config(key="num_fewshot", value=shots)
        task.set_fewshot_seed(seed=1234)
    options = {"apply_chat_template": chat, "fewshot_as_multiturn": chat}
    outcome = ask(lm=lm, task_dict=loaded, log_samples=True, **options)
    return outcome["results"][name], outcome["samples"]


CASES = [
    ("arc", {"en": "arc_te"}, "te", "arc_te", "okapi/arc_multilingual"),
    ("arc", {"en": "arc_challenge"}, "en", "arc_challenge", "arc"),
    ("m_mmlu", {"en": "m_mmlu_te"}, "te", "m_mmlu_te", "okapi/mmlu_multilingual"),
    ("global_mmlu_full_{language}_stem", {"en": "global_mmlu_full_te_stem"}, "te",
     "global_mmlu_full_te_stem", "global_mmlu/full/te"),
    ("mgsm_en_cot", {"en": "mgsm_en_cot_te"}, "te", "mgsm_en_cot_te", "mgsm/en_cot"),
]  # fmt: skip


@pytest.mark.parametrize("shots", [0, 3])
@pytest.mark.parametrize(("like", "names", "language", "name", "folder"), CASES)
def test_prompts_likelihoods_and_scores_are_those_of_lm_evals_own_evaluation(
    *, home: Path, tmp_path: Path, stand_in: None, live: engines.Engine, shots: int, like: str,
    names: dict, language: str, name: str, folder: str,
) -> None:  # fmt: skip
    generated = like.startswith("mgsm")
    metric, strict = ("exact_match", "strict-match") if generated else ("acc", "none")
    settings = {"like": like, "names": names, "num_fewshot": shots}
    if generated:
        settings["max_gen_toks"] = 16
    ours = fetched(matrix(tmp_path, **settings), language)
    live.switch(EMBEDDED_BASE)
    # asked twice: the second model must be shown the same examples
    questions = load([ours])
    first, result = (evaluate(live, questions)[ours.name] for _ in range(2))
    assert first.items == result.items
    theirs, samples = lm_eval_result(live.lm, name, shots, folder)
    told = [
        sample
        for of_task in samples.values()
        for sample in sorted(of_task, key=lambda sample: sample["doc_id"])
        if sample["filter"] == strict
    ]
    assert len(told) == result.n == len(result.items)
    for item, sample in zip(result.items, told, strict=True):
        assert item["prompt"] == sample["arguments"][0][0]
        if not generated:
            assert item["choices"] == [more.strip() for _, more in sample["arguments"]]
            assert item["loglikelihoods"] == pytest.approx([r[0][0] for r in sample["resps"]])
            assert item["correct"] == bool(sample["acc"])
            gold = sample["target"]
            assert item["gold"] == (item["choices"][gold] if isinstance(gold, int) else gold)
        else:
            read = json.loads(item["filtered"])
            assert read.keys() == {"strict-match", "flexible-extract", "number"}
            assert read[strict] == sample["filtered_resps"][0]
    assert result.metrics[f"{metric},{strict}"] == theirs[f"{metric},{strict}"]
    if not generated:
        assert result.score == theirs["acc,none"]
        assert result.stderr == pytest.approx(theirs["acc_stderr,none"])
        assert len({item["id"] for item in result.items}) == result.n


def test_a_groups_examples_are_of_the_questions_own_subject(
    home: Path, tmp_path: Path, stand_in: None
) -> None:
    like = "global_mmlu_full_{language}_stem"
    task = fetched(matrix(tmp_path, like=like, num_fewshot=2))
    assert len(task.parts) == len(hub_data.STEM) and len(task.docs) == 2 * len(hub_data.STEM) + 1
    result = asked_of_nobody(task)
    for item in result.items:
        subject = item["id"].split("/")[0]
        assert item["prompt"].count(f"{subject} ") == 3
        assert "sociology" not in item["prompt"]
    # texts that look like dates stay texts
    assert "2020-01-01?" in result.items[0]["prompt"]
    few = task.first(5)
    assert [len(part.docs) for part in few.parts] == [1] * 5


def asked_of_nobody(task: tasks.Task) -> Result:
    """The items of a task that no model answered: what would be sent."""
    from lm_eval.models.dummy import DummyLM

    return evaluate(SimpleNamespace(lm=DummyLM(), was_cut=lambda _: False), load([task]))[task.name]


# --- local files -------------------------------------------------------------------------------


def own_prompts(name: str, folder: str, docs: list, examples: list, shots: int) -> list[str]:
    """The prompts that lm-eval's own task object builds from documents."""
    import lm_eval.tasks
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(Path(lm_eval.tasks.__file__).parent / folder / f"{name}.yaml")
    config.pop("tag", None)
    splits = {"test": Dataset.from_list(docs), "train": Dataset.from_list(examples)}
    own = ConfigurableTask(config=config | {"custom_dataset": lambda **_: splits})
    own.set_config(key="num_fewshot", value=shots)
    own.set_fewshot_seed(seed=1234)
    own.build_all_requests()
    return [request.args[0] for request in own.instances]


def real_docs(real_data: Path, benchmark: str, language: str) -> list[dict]:
    """The questions of a file, as the hub's mgsm has its test split."""
    if benchmark == "mgsm":
        with (real_data / f"mgsm/mgsm_{language}.tsv").open(encoding="utf-8") as file:
            rows = [tuple(r) for r in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    else:
        lines = (real_data / f"msvamp/msvamp_{language}.json").read_text("utf-8").splitlines()
        rows = [(e["m_query"], e["response"]) for e in map(json.loads, lines)]
    return [
        {"question": asked, "answer": None, "answer_number": int(float(n.replace(",", "")))}
        for asked, n in rows
    ]


@pytest.mark.parametrize("shots", [0, 4])
@pytest.mark.parametrize(
    ("benchmark", "family", "language"),
    [
        *(("mgsm", "native_cot", language) for language in MGSM),
        *(("msvamp", "native_cot", language) for language in MSVAMP),
        ("mgsm", "direct", "te"),
        ("mgsm", "en_cot", "bn"),
    ],
)
def test_prompts_of_real_questions_are_those_of_lm_evals_own_task_text_by_text(
    *, home: Path, tmp_path: Path, real_data: Path, benchmark: str, family: str, language: str,
    shots: int,
) -> None:  # fmt: skip
    examples = hub_data.mgsm_examples()
    for code in (language, "te", "en"):
        lines = [json.dumps(example) for example in examples]
        (tmp_path / f"examples_{code}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    end = {"mgsm": "tsv", "msvamp": "json"}[benchmark]
    settings = {
        "like": f"mgsm_{family}",
        "files": str(real_data / benchmark / f"{benchmark}_{{language}}.{end}"),
        "fewshot_files": "examples_{language}.jsonl",
        "num_fewshot": shots,
    }
    task = tasks.task(matrix(tmp_path, "math", **settings), "math", language)
    docs = real_docs(real_data, benchmark, language)
    expected = own_prompts(f"mgsm_{family}_{language}", f"mgsm/{family}", docs, examples, shots)
    sent = [item["prompt"] for item in asked_of_nobody(task).items]
    assert len(sent) == len(docs) and sent == expected
    assert all((doc["question"] in prompt) for doc, prompt in zip(docs, sent, strict=True))
    told = 0 if family == "direct" else shots  # it shows numbers alone
    assert {prompt.count("The answer is") for prompt in sent} == {told}


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_choices_from_files_of_any_kind_are_those_of_the_data_set(
    home: Path, tmp_path: Path, stand_in: None, suffix: str
) -> None:
    for split, key in (("test", "questions"), ("train", "examples")):
        docs = pd.DataFrame(hub_data.m_arc(split, {"test": 7, "train": 9}[split]))
        for code in ("te", "en"):
            path = tmp_path / f"{key}_{code}.{suffix}"
            if suffix == "jsonl":
                docs.to_json(path, orient="records", lines=True, force_ascii=False)
            else:
                getattr(docs, f"to_{suffix}")(path, index=False)
    names = {"en": "arc_te"}
    ours = matrix(
        tmp_path, like="arc", names=names, num_fewshot=2,
        files=f"questions_{{language}}.{suffix}", fewshot_files=f"examples_{{language}}.{suffix}",
    )  # fmt: skip
    assert not tasks.task(ours, "science", "te").fetched
    from_files = fetched(ours)
    of_the_hub = fetched(matrix(tmp_path, like="arc", names=names, num_fewshot=2))
    assert from_files.docs[0]["query"].startswith("Question: test 0: ఏది పెద్దది")
    sent, expected = (
        [(item["prompt"], item["choices"], item["gold"]) for item in asked_of_nobody(task).items]
        for task in (from_files, of_the_hub)
    )
    assert sent == expected


def test_msvamps_fields_are_read_from_the_hub_too(
    home: Path, tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for code in ("en", "bn"):
        lines = (real_data / f"msvamp/msvamp_{code}.json").read_text("utf-8").splitlines()
        docs = [json.loads(line) for line in lines]
        (tmp_path / f"mirror_{code}").mkdir()
        hub_data.dataset(tmp_path / f"mirror_{code}", {code: {"test": docs}})
    settings = {"like": "mgsm_native_cot", "dataset": "mirror_{language}"}
    task = fetched(matrix(tmp_path, "math", "bn", **settings), "bn")
    files = {"files": str(real_data / "msvamp/msvamp_{language}.json")}
    same = tasks.task(matrix(tmp_path, "math", "bn", **files), "math", "bn")
    assert (task.docs, task.config) == (same.docs, same.config) and task.key == same.key
    # there are no examples in it
    with pytest.raises(InputError, match="2 examples are asked for and there are 0") as caught:
        fetched(matrix(tmp_path, "math", "bn", **settings, num_fewshot=2), "bn")
    assert "\n" not in str(caught.value)


# --- what is asked beside a prompt -------------------------------------------------------------


def test_a_chat_template_is_applied_as_lm_eval_does_or_refused(
    home: Path, tmp_path: Path, stand_in: None
) -> None:
    base = tmp_path / "base"
    shutil.copytree(EMBEDDED_BASE, base)
    settings = {"like": "mgsm_direct", "num_fewshot": 2, "max_gen_toks": 8}
    plain = fetched(matrix(tmp_path, "math", **settings))
    chat = matrix(tmp_path, "math", **settings, chat_template=True)
    task = fetched(chat)
    assert task.chat_template and task.key != plain.key
    engine = Engine(kind="transformers", max_model_len=1024)
    with pytest.raises(InputError, match=r"tasks\.math\.chat_template: .* has no chat") as caught:
        require_fit([task], [base_step(chat)], engine, str(chat.file))
    assert "\n" not in str(caught.value)
    (base / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    with_template = chat.model_copy(update={"base": str(base)})
    require_fit([task], [base_step(with_template)], engine, str(chat.file))
    live = engines.start(engine, base)
    results = evaluate(live, load([task, plain.named("plain")]))
    _, samples = lm_eval_result(live.lm, "mgsm_direct_te", 2, "mgsm/direct", chat=True)
    expected = {s["doc_id"]: s["arguments"][0][0] for s in samples["mgsm_direct_te"]}
    sent = [item["prompt"] for item in results[task.name].items]
    assert sent == [expected[n] for n in range(5)]
    assert sent[0].startswith("<user>Question: ") and sent[0].endswith("<assistant>")
    assert "<user>" not in results["plain"].items[0]["prompt"]


def test_dev_questions_are_another_splits_without_those_of_the_test(
    home: Path, tmp_path: Path, stand_in: None
) -> None:
    asked = matrix(tmp_path, like="arc", names={"en": "arc_te"}, dev_split="val")
    test, dev = fetched(asked), fetched(asked.on_dev())
    assert [doc["id"] for doc in dev.docs] == [f"val/{n}" for n in range(4)]
    assert dev.split == "dev" and dev.name == f"{test.name}_dev"
    assert not set(dev.questions) & set(test.questions)
    elsewhere = matrix(tmp_path, like="arc", names={"en": "arc_te"}, dev_split="nothing")
    with pytest.raises(InputError, match="has no split 'nothing'"):
        fetched(elsewhere.on_dev())


def test_until_questions_are_fetched_a_plan_has_their_cells_without_a_key(
    home: Path, tmp_path: Path, stand_in: None
) -> None:
    asked = matrix(tmp_path, like="arc", names={"en": "arc_te"})
    before = make_plan(asked)
    assert [before.key(cell) for cell in before.cells] == [None, None]
    assert {cell["state"] for cell in before.summary()["cells"]} == {"missing"}
    assert not home.exists()
    fetched(asked)
    after = make_plan(asked)
    assert all(after.key(cell) for cell in after.cells)
    (kept,) = {path.name for path in home.iterdir()}
    assert kept == "questions"


def test_fetched_questions_that_were_altered_are_refused_and_fetched_again(
    home: Path, tmp_path: Path, stand_in: None
) -> None:
    asked = matrix(tmp_path, like="arc", names={"en": "arc_te"})
    before = fetched(asked).data_fingerprint
    (folder,) = (home / "questions").iterdir()
    path = folder / "arc_te.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("a", "b", 1), encoding="utf-8")
    with pytest.raises(Damaged, match="no longer what was fetched"):
        make_plan(asked)
    left = doctor.repair()[1]
    assert left.findings == [] and not folder.exists()
    assert fetched(asked).data_fingerprint == before


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ({"like": "arc"}, "tasks.science: lm-eval has no task arc_en"),
        ({"like": "wikitext", "names": {"te": "wikitext", "en": "wikitext"}}, "can be asked"),
        ({"like": "m_mmlu", "filter": "number"}, "tasks.science.filter: lm-eval's task m_mmlu_en"),
        ({"like": "m_mmlu", "max_gen_toks": 8}, "generates no answer; leave it out"),
        ({"like": "mgsm_direct", "filter": "strict"}, "(allowed: remove_whitespace, flexible-"),
        ({"like": "m_mmlu", "dataset": "nowhere/at/all"}, "is no folder, and no hub id"),
        ({"like": "m_mmlu", "num_fewshots": 8}, "did you mean 'num_fewshot'?"),
        ({"files": "q.tsv"}, "a path with {language} in it"),
        ({"files": "q_{language}.tsv", "dataset": "a/b"}, "either files or dataset"),
        ({"files": "q_{language}.tsv", "num_fewshot": 8}, "num_fewshot needs fewshot_files"),
        ({"dev_files": "q_{language}.tsv"}, "dev_files stands beside files"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line_before_anything_is_fetched(
    home: Path, tmp_path: Path, task: dict, expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        make_plan(matrix(tmp_path, **task))
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert not home.exists()


def test_a_data_set_that_cannot_be_had_is_named_in_one_line(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"nobody/nothing \(en\) abc cannot be had") as caught:
        fetched(matrix(tmp_path, like="m_mmlu", dataset="nobody/nothing@abc"))
    assert "\n" not in str(caught.value) and "HF_HUB_OFFLINE is set" in str(caught.value)
    assert not home.exists()


def test_a_folder_of_another_make_is_refused_in_one_line(
    home: Path, tmp_path: Path, hub: dict[str, Path]
) -> None:
    asked = matrix(
        tmp_path, like="arc", names={"en": "arc_te"}, dataset=str(hub["alexandrainst/m_mmlu"])
    )
    with pytest.raises(
        InputError, match=r"is not what lm-eval's task arc_te needs: .*option_e"
    ) as c:
        fetched(asked)
    assert "\n" not in str(c.value)
    assert not home.exists()
