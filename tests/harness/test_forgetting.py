"""What a model lost: held-out text that no corpus holds, and the other abilities' questions."""

import json
import math
from pathlib import Path

import pytest

from harness import store, tasks
from harness.embedded import corpora, items, lexicon
from harness.plan import make_plan
from harness.spec import Matrix, load_matrix
from harness.table import rows
from maec.errors import InputError
from tests.harness.models import random_model
from tests.harness.test_embedded_corpora import statements
from tests.harness.test_store import cell
from tests.harness.test_tasks import load_with_lm_eval, matrix_file


def forgetting(folder: Path, **changes: object) -> Matrix:
    values = {
        "abilities": ["math", "science"],
        "forgetting": {"documents": 3, "items": 4},
        "documents": {"general": 9, "pivot": 9, "ability": 9, "translated": 9},
        "training": {"ability": {"steps": 1, "learning_rate": 0.001}},
    }
    return load_matrix(matrix_file(folder, **{**values, **changes}))


# --- held-out text -----------------------------------------------------------------------------


@pytest.mark.parametrize("language", lexicon.codes())
def test_held_out_text_occurs_in_no_general_corpus(language: str) -> None:
    texts = [entry["text"] for entry in items.texts(language, 60)]
    assert len(set(texts)) == len(texts) == 60
    assert [entry["text"] for entry in items.texts(language, 60)] == texts
    assert [entry["text"] for entry in items.texts(language, 7)] == texts[:7]
    assert {len(list(statements(text))) for text in texts} == {1}
    told = {statement for text in texts for statement in statements(text)}
    assert {kind for kind, *_ in told} == {"math", "science"}
    for seed in range(3):
        corpus = corpora.general(language, 6000, seed)
        whole = "\n".join(corpus)
        assert not [text for text in texts if text in whole]
        made = {statement for text in corpus for statement in statements(text)}
        assert len(made) > 1000
        assert not made & told


def test_held_out_text_is_asked_whole_and_of_every_model(home: Path, tmp_path: Path) -> None:
    matrix = forgetting(tmp_path, methods=["base", "f-cpt-a"])
    task = tasks.text(matrix, "te")
    assert task.split == "text" and task.questions == []
    loaded = load_with_lm_eval(task)
    docs = list(loaded.test_docs())
    assert [loaded.doc_to_target(doc) for doc in docs] == [doc["text"] for doc in task.docs]
    assert len(docs) == 3
    plan = make_plan(matrix)
    asked = {(c.method, c.ability, c.language, c.asked) for c in plan.cells}
    assert len(asked) == len(plan.cells) == 2 * 2 * 2 * 3
    for method, ability, language, _ in list(asked):
        for other in ("math", "science", "text"):
            assert (method, ability, language, other) in asked


@pytest.mark.slow
def test_bits_per_byte_are_what_the_logits_say(home: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness import engine as engines
    from harness.evaluate import evaluate, load
    from harness.spec_machine import Engine

    path = random_model(tmp_path, 1)
    task = tasks.text(forgetting(tmp_path), "te")
    live = engines.start(Engine(kind="transformers", max_model_len=256), random_model(tmp_path, 0))
    live.switch(path)
    result = evaluate(live, load([task]))[task.name]
    live.stop()

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    likelihoods = []
    for doc in task.docs:
        ids = tokenizer(doc["text"], add_special_tokens=False, return_tensors="pt").input_ids[0]
        assert len(ids) > 3
        given = torch.cat([torch.tensor([tokenizer.eos_token_id]), ids])
        with torch.no_grad():
            logits = model(given[None]).logits[0].double().log_softmax(-1)
        likelihoods.append(logits[:-1].gather(1, ids[:, None]).sum().item())
    size = sum(len(doc["text"].encode("utf-8")) for doc in task.docs)
    assert result.score == pytest.approx(-sum(likelihoods) / size / math.log(2), rel=1e-5)
    assert result.n == len(task.docs) == 3
    found = [item["loglikelihoods"][0] for item in result.items]
    assert found == pytest.approx(likelihoods, rel=1e-5)
    assert [item["gold"] for item in result.items] == [doc["text"] for doc in task.docs]
    assert not any("correct" in item for item in result.items)
    words = sum(len(doc["text"].split()) for doc in task.docs)
    perplexity = result.metrics["word_perplexity,none"]
    assert perplexity == pytest.approx(math.exp(-sum(likelihoods) / words), rel=1e-3)


def test_another_base_needs_texts_of_its_own(home: Path, tmp_path: Path) -> None:
    base = {"base": random_model(tmp_path, 0).name}
    with pytest.raises(InputError, match="forgetting: text_files is missing") as caught:
        forgetting(tmp_path, **base)
    assert "\n" not in str(caught.value)
    forgetting(tmp_path, **base, forgetting={"documents": 0})
    named = {"documents": 2, "text_files": "texts_{language}.jsonl"}
    matrix = forgetting(tmp_path, **base, forgetting=named)
    with pytest.raises(InputError, match=r"there is no file .*texts_te\.jsonl"):
        tasks.text(matrix, "te")
    lines = [json.dumps({"text": text}) for text in ("ఒకటి", "రెండు", "మూడు")]
    (tmp_path / "texts_te.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert [doc["text"] for doc in tasks.text(matrix, "te").docs] == ["ఒకటి", "రెండు"]
    (tmp_path / "texts_te.jsonl").write_text('{"txt": "x"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 1 is no JSON object with the key text"):
        tasks.text(matrix, "te")


# --- other abilities ---------------------------------------------------------------------------


def test_the_other_ability_is_asked_with_the_first_questions_of_its_task(
    home: Path, tmp_path: Path
) -> None:
    plan = make_plan(forgetting(tmp_path))
    own = {(c.asked, c.language): c.task for c in plan.cells if c.asked == c.ability}
    others = [c for c in plan.cells if c.asked not in (c.ability, tasks.TEXT)]
    assert len(others) == 4
    for cell_ in others:
        whole = own[cell_.asked, cell_.language]
        assert cell_.task.docs == whole.docs[:4]
        assert cell_.task.config == whole.config
        assert cell_.task.name != whole.name
        assert set(cell_.task.questions) <= set(whole.questions)


def test_where_all_questions_are_asked_anyway_it_is_the_same_task(
    home: Path, tmp_path: Path
) -> None:
    plan = make_plan(forgetting(tmp_path, items=4))
    assert len({cell.task.key for cell in plan.cells if cell.asked != tasks.TEXT}) == 4


def test_nothing_more_is_asked_without_it_or_with_zeros(home: Path, tmp_path: Path) -> None:
    nothing = {"documents": 0, "items": 0}
    for asked in (None, nothing):
        plan = make_plan(forgetting(tmp_path, forgetting=asked))
        assert {c.asked == c.ability for c in plan.cells} == {True}
        assert len(plan.cells) == 4


def test_a_row_about_forgetting_has_the_score_minus_the_bases(home: Path, tmp_path: Path) -> None:
    matrix = forgetting(tmp_path, methods=["base", "f-cpt-a"])
    for planned in make_plan(matrix).cells:
        if planned.method == "f-cpt-a" and not planned.model.done:
            planned.model.folder.mkdir(parents=True)
            manifest = {"fingerprint": f"of {planned.model.key}"}
            (planned.model.folder / "manifest.json").write_text(json.dumps(manifest))
    plan = make_plan(matrix)
    scores = {
        key: index / 100 for index, key in enumerate(dict.fromkeys(map(plan.key, plan.cells)))
    }
    missing = plan.key(plan.cells[1])
    assert plan.cells[1].method == "base" and plan.cells[1].asked != plan.cells[1].ability
    with store.writer() as writer:
        for key, score in scores.items():
            if key != missing:
                writer.commit_cell(cell(key, score=score), [])
        writer.snapshot(now=True)
    plan = make_plan(matrix)
    found = rows(plan)
    assert len(found) == len(plan.cells) == 24
    of_base = {
        (row["asked"], row["language"], row["task"]): row["score"]
        for row in found
        if row["method"] == "base"
    }
    compared = 0
    for row, planned in zip(found, plan.cells, strict=True):
        if row["asked"] == row["ability"]:
            assert "vs_base" not in row
            continue
        theirs = of_base[row["asked"], row["language"], row["task"]]
        if theirs is None:
            assert row["vs_base"] is None
            assert plan.key(planned) == missing or row["method"] == "f-cpt-a"
        else:
            compared += 1
            assert row["vs_base"] == pytest.approx(row["score"] - theirs)
            assert (row["vs_base"] == 0) == (row["method"] == "base")
    assert compared >= 10
