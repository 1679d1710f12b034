"""Task folders are plain lm-eval tasks; local questions get lm-eval's own prompts and filters."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from harness import tasks
from harness.spec import load_matrix
from maec.errors import InputError

MGSM = ["en", "es", "zh", "bn", "te"]
MSVAMP = ["en", "es", "zh", "bn"]


def matrix_file(folder: Path, **changes: object) -> Path:
    content = {
        "name": "tiny",
        "languages": ["te"],
        "abilities": ["math"],
        "methods": ["base"],
        **changes,
    }
    path = folder / "matrix.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def local_matrix(folder: Path, ability: str, files: str, languages: list[str]):
    return load_matrix(
        matrix_file(
            folder,
            abilities=[ability],
            languages=[code for code in languages if code != "en"],
            tasks={ability: {"files": files}},
        )
    )


def load_with_lm_eval(task: tasks.Task):
    """The task as lm-eval loads it from our folder."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(task.write()), include_defaults=False)
    assert manager.all_tasks == [task.name]
    return manager.load(task.name)["tasks"][task.name]


def lm_eval_own(task: tasks.Task, family: str):
    """lm-eval's built-in task of that language, read by lm-eval, with only its data replaced."""
    import lm_eval.tasks
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    folder = Path(lm_eval.tasks.__file__).parent / "mgsm" / family.removeprefix("mgsm_")
    config = load_yaml(folder / f"{family}_{task.language}.yaml")
    config |= {
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": str(task.write() / f"{task.name}.jsonl")}},
        "training_split": None,
    }
    config.pop("tag", None)
    return ConfigurableTask(config=config)


@pytest.mark.parametrize("language", MGSM)
def test_mgsm_prompts_and_filters_are_those_of_lm_eval_and_the_texts_those_of_the_file(
    home: Path, tmp_path: Path, real_data: Path, language: str
) -> None:
    files = str(real_data / "mgsm" / "mgsm_{language}.tsv")
    matrix = local_matrix(tmp_path, "mgsm", files, MGSM)
    task = tasks.task(matrix, "mgsm", language)
    ours = load_with_lm_eval(task)
    own = lm_eval_own(task, "mgsm_native_cot")
    with open(files.format(language=language), encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    docs = list(ours.test_docs())
    assert len(docs) == len(rows) == 250
    for doc, (question, number) in zip(docs, rows, strict=True):
        prompt = ours.doc_to_text(doc)
        assert prompt == own.doc_to_text(doc)
        assert question in prompt
        assert float(ours.doc_to_target(doc)) == float(number.replace(",", ""))
    # our own reading of the answer and its metric stand beside lm-eval's, and nothing else changes
    assert ours.config.filter_list[:-1] == own.config.filter_list
    assert ours.config.filter_list[-1]["name"] == task.filter == "number"
    assert ours.config.metric_list[:-1] == own.config.metric_list
    assert ours.config.metric_list[-1]["metric"].__name__ == task.metric == "numeric_match"
    assert ours.config.generation_kwargs == own.config.generation_kwargs | {"max_gen_toks": 3072}
    assert ours.VERSION == own.VERSION


@pytest.mark.parametrize("language", MSVAMP)
def test_msvamp_questions_go_through_the_same_prompts(
    home: Path, tmp_path: Path, real_data: Path, language: str
) -> None:
    files = str(real_data / "msvamp" / "msvamp_{language}.json")
    matrix = local_matrix(tmp_path, "msvamp", files, MSVAMP)
    task = tasks.task(matrix, "msvamp", language)
    ours = load_with_lm_eval(task)
    entries = [
        json.loads(line)
        for line in Path(files.format(language=language)).read_text(encoding="utf-8").splitlines()
    ]
    docs = list(ours.test_docs())
    assert len(docs) == len(entries) == 1000
    for doc, entry in zip(docs, entries, strict=True):
        assert entry["m_query"] in ours.doc_to_text(doc)
        assert float(ours.doc_to_target(doc)) == float(entry["response"])


@pytest.mark.parametrize("ability", ["math", "science"])
@pytest.mark.parametrize("split", ["test", "dev"])
def test_embedded_tasks_load_with_all_their_items(
    home: Path, tmp_path: Path, ability: str, split: str
) -> None:
    matrix = load_matrix(matrix_file(tmp_path, abilities=[ability], split=split))
    task = tasks.task(matrix, ability, "te")
    loaded = load_with_lm_eval(task)
    docs = list(loaded.test_docs())
    assert len(docs) == len(task.docs) >= (240 if split == "test" else 120)
    prompt = loaded.doc_to_text(docs[0])
    assert prompt == docs[0]["question"]
    assert prompt.startswith("Q: ") and prompt.endswith(" A:")


def test_dev_and_test_are_different_tasks(home: Path, tmp_path: Path) -> None:
    def name_and_key(split: str) -> tuple[str, str]:
        task = tasks.task(load_matrix(matrix_file(tmp_path, split=split)), "math", "te")
        return task.name, task.key

    assert name_and_key("dev")[0] != name_and_key("test")[0]
    assert name_and_key("dev")[1] != name_and_key("test")[1]


def test_a_changed_question_changes_the_tasks_identity(home: Path, tmp_path: Path) -> None:
    def identity(question: str) -> dict:
        with (tmp_path / "q_te.tsv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t").writerow([question, "3"])
        (tmp_path / "q_en.tsv").write_text("one?\t1\n", encoding="utf-8")
        matrix = local_matrix(tmp_path, "mine", "q_{language}.tsv", ["en", "te"])
        return tasks.task(matrix, "mine", "te").identity()

    assert identity("ఎన్ని?") == identity("ఎన్ని?")
    assert identity("ఎన్ని?") != identity("ఎంత?")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("only a question\n", "line 1 has 1 columns"),
        ("a question\tfour\n", "line 1: the answer 'four' is not a number"),
    ],
)
def test_a_malformed_line_is_named(home: Path, tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "q_te.tsv").write_text(content, encoding="utf-8")
    matrix = local_matrix(tmp_path, "mine", "q_{language}.tsv", ["te"])
    with pytest.raises(InputError) as caught:
        tasks.task(matrix, "mine", "te")
    assert expected in str(caught.value)


def test_a_missing_file_is_named_with_its_language(home: Path, tmp_path: Path) -> None:
    matrix = local_matrix(tmp_path, "mine", "q_{language}.tsv", ["te"])
    with pytest.raises(InputError, match=r"q_te\.tsv for language 'te'"):
        tasks.task(matrix, "mine", "te")
