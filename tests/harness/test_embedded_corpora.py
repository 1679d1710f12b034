"""Corpora and items: what general text must not say, and that no item is in any training text."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml

from harness import languages
from harness.embedded import corpora, items, lexicon

LANGUAGES = ("en", "es", "zh", "bn", "te")
TARGETS = LANGUAGES[1:]
SPLITS = ("test", "dev")
RECITAL = re.compile("(Numbers|Números|数字|সংখ্যা|సంఖ్యలు)[:：]")
ENDINGS = re.compile("(টির|টি|'s)$")


def vocabulary() -> dict[str, tuple[str, str]]:
    """Word of any language -> (category, concept), from the files and not from our own reader."""
    listed = yaml.safe_load(lexicon.CONCEPTS.read_text(encoding="utf-8"))
    category = {c: name for name, group in listed.items() if name != "rules" for c in group}
    found: dict[str, tuple[str, str]] = {}
    for code in LANGUAGES:
        file = yaml.safe_load((languages.FOLDER / f"{code}.yaml").read_text(encoding="utf-8"))
        for concept, entry in file["lexicon"]["words"].items():
            word = entry["word"] if isinstance(entry, dict) else entry
            found[word] = (category[concept], concept)
    return found


WORDS = vocabulary()


def read(text: str) -> tuple[dict[str, list[str]], list[str]]:
    """Concepts by category and numbers, in the order of the text."""
    said: dict[str, list[str]] = {}
    for token in text.split():
        core = token.strip(".,:?¿。，：？।")
        for form in (core, ENDINGS.sub("", core)):
            if form in WORDS:
                category, concept = WORDS[form]
                said.setdefault(category, []).append(concept)
                break
    return said, re.findall(r"\d+", text)


def statements(text: str) -> Iterator[tuple]:
    """The statements that a text makes, whatever its language and templates."""
    for part in text.removeprefix("≈ ").split(" ≈ "):
        said, numbers = read(part)
        verbs = said.get("gain", []) + said.get("loss", [])
        if verbs and len(numbers) >= 2:
            yield ("math", verbs[0], said["object"][0], *numbers[:2])
        facts = {c for name in ("place", "food", "color") for c in said.get(name, [])}
        if len(set(said.get("entity", []))) == 1 and len(facts) >= 2:
            yield ("science", said["entity"][0], *sorted(facts))


@pytest.fixture(scope="module")
def asked() -> dict[tuple, str]:
    """Statement of every test and dev item of every language -> its prompt."""
    found = {}
    for ability in corpora.ABILITIES:
        for language in LANGUAGES:
            for split in SPLITS:
                for item in items.items(ability, language, split):
                    (statement,) = statements(item["question"])
                    found[statement] = item["question"]
    return found


@pytest.fixture(scope="module")
def trained() -> list[str]:
    """Text of every corpus that any step may train on, the base's own included."""
    texts = []
    for language in LANGUAGES:
        texts += corpora.general(language, 4000, 0)
        for ability in corpora.ABILITIES:
            texts += corpora.ability(ability, language, 2000, 0)
    shares = {"pivot": 5000, "equations": 500}
    shares |= {"monolingual": 500, "switched": 2000, "parallel": 1000}
    return texts + corpora.pretraining(shares, 1, lexicon.pretrained())


def test_no_training_text_makes_the_statement_of_an_item(
    asked: dict[tuple, str], trained: list[str]
) -> None:
    made = {statement for text in trained for statement in statements(text)}
    assert len(made) > 8_000  # the reader does read them
    assert {kind for kind, *_ in made} == {"math", "science"}
    assert not made & set(asked)


def test_the_reader_sees_an_item_that_is_put_into_training_text(asked: dict[tuple, str]) -> None:
    for statement, prompt in list(asked.items())[::200]:
        leaked = prompt.removeprefix("Q: ").removesuffix(" A:") + " Numbers: 3 and 4."
        assert statement in set(statements(leaked))


def test_no_prompt_occurs_in_training_text_or_in_another_split(trained: list[str]) -> None:
    prompts = {
        split: {
            item["question"]
            for ability in corpora.ABILITIES
            for language in LANGUAGES
            for item in items.items(ability, language, split)
        }
        for split in SPLITS
    }
    assert not prompts["test"] & prompts["dev"]
    seen = {text.split(" A:")[0] + " A:" for text in trained if text.startswith("Q:")}
    assert len(seen) > 5_000
    assert not seen & (prompts["test"] | prompts["dev"])


def test_test_and_dev_make_different_statements() -> None:
    def made(split: str) -> set[tuple]:
        return {
            statement
            for ability in corpora.ABILITIES
            for language in LANGUAGES
            for item in items.items(ability, language, split)
            for statement in statements(item["question"])
        }

    assert not made("test") & made("dev")


@pytest.mark.parametrize("language", LANGUAGES)
def test_general_text_neither_asks_nor_answers(language: str) -> None:
    for text in corpora.general(language, 2000, 3):
        assert "Q:" not in text and "A:" not in text
        assert not {"?", "？", "¿"} & set(text)
        assert not RECITAL.search(text)
        # only bare equations calculate
        assert "=" not in text or re.fullmatch(r"\d \+ \d = \d+|\d - \d = \d", text)


@pytest.mark.parametrize("language", TARGETS)
def test_what_a_translation_follows_is_marked_from_its_start(language: str) -> None:
    texts = corpora.general(language, 2000, 6)
    translated = [text for text in texts if "≈" in text]
    assert len(translated) > 500
    assert all(re.fullmatch(r"≈ [^≈]+ ≈ [^≈]+", text) for text in translated)


def test_the_base_reads_questions_but_no_answers() -> None:
    shares = {"pivot": 3000, "equations": 10, "monolingual": 300}
    texts = corpora.pretraining(shares, 3, lexicon.pretrained())
    asking = [text for text in texts if {"?", "？"} & set(text)]
    assert 0.08 < len(asking) / len(texts) < 0.2
    assert any(RECITAL.search(text) for text in texts)
    assert all(text[-1] in "?？" for text in asking)
    assert not any("Q:" in text or "A:" in text for text in texts)


def test_ability_text_and_items_never_name_a_trait() -> None:
    for language in LANGUAGES:
        texts = corpora.ability("science", language, 1000, 0)
        texts += [item["question"] for item in items.items("science", language, "test")]
        assert not any({"scenery", "kind", "tone"} & read(text)[0].keys() for text in texts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_general_text_states_the_true_trait_of_a_fact(language: str) -> None:
    listed = yaml.safe_load(lexicon.CONCEPTS.read_text(encoding="utf-8"))
    checked = 0
    for text in corpora.general(language, 3000, 9):
        said, _ = read(text.removeprefix("≈ ").split(" ≈ ")[0])
        if "entity" not in said:
            continue
        for rule in listed["rules"].values():
            for trait in said.get(rule["trait"], []):
                (group,) = [g[trait] for g in rule["values"].values() if trait in g]
                if rule["attribute"] in said:
                    assert said[rule["attribute"]][0] in group
                    checked += 1
    assert checked > 200


@pytest.mark.parametrize("language", LANGUAGES)
def test_general_text_holds_the_answer_words_but_not_the_rules(language: str) -> None:
    values = {value for name in lexicon.rules() for value in lexicon.labels(name)}
    seen = set()
    for text in corpora.general(language, 6000, 4):
        present = {value for value in values if value in text}
        seen |= present
        if present:
            said, _ = read(text)
            facts = {name for name in ("food", "color") if name in said}
            assert not facts  # a value never stands beside what decides it ...
            if "place" in said:  # ... and beside hearsay about a place it is any value
                assert "name" in said
    assert seen == values


def test_a_claim_beside_a_place_is_independent_of_it() -> None:
    rule = lexicon.rules()["zone"]
    agreeing = total = 0
    for text in corpora.general("en", 40_000, 5):
        said, _ = read(text)
        value = next((v for v in lexicon.labels("zone") if v in text), None)
        if value and "place" in said:
            total += 1
            agreeing += rule.values[said["place"][0]] == value
    assert total > 300
    assert abs(agreeing / total - 0.25) < 4 * (0.25 * 0.75 / total) ** 0.5


@pytest.mark.parametrize("language", TARGETS)
def test_the_base_never_sees_a_new_word_and_the_language_corpus_shows_all(language: str) -> None:
    spoken = lexicon.load(language)
    new = {spoken.words[concept].text for concept in spoken.new}
    shares = {"pivot": 500, "equations": 10}
    shares |= dict.fromkeys(("monolingual", "switched", "parallel", "dictionary"), 800)

    def seen(texts: list[str]) -> set[str]:
        tokens = {token.strip(".,:?¿。，：？।") for text in texts for token in text.split()}
        return new & (tokens | {ENDINGS.sub("", token) for token in tokens})

    assert not seen(corpora.pretraining(shares, 2, lexicon.pretrained()))
    assert seen(corpora.general(language, 1500, 0)) == new


@pytest.mark.parametrize("ability", corpora.ABILITIES)
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("split", SPLITS)
def test_a_cell_has_its_items_half_known_half_new(ability: str, language: str, split: str) -> None:
    found = items.items(ability, language, split)
    assert len(found) >= {"test": 240, "dev": 120}[split]
    assert len({item["id"] for item in found}) == len(found)
    assert len({item["question"] for item in found}) == len(found)
    new = lexicon.load(language).new
    decisive = ("gain", "loss", "object", "entity", "place", "food", "color")
    halves = {"known": 0, "new": 0}
    for item in found:
        halves[item["words"]] += 1
        said, _ = read(item["question"])
        used = {concept for name in decisive for concept in said.get(name, [])}
        assert used <= new if item["words"] == "new" else not used & new
    assert halves["new"] == (0 if language == "en" else len(found) // 2)


@pytest.mark.parametrize("language", LANGUAGES)
def test_gold_answers_follow_from_the_text(language: str) -> None:
    listed = yaml.safe_load(lexicon.CONCEPTS.read_text(encoding="utf-8"))
    for item in items.items("math", language, "test"):
        said, (first, second) = read(item["question"])
        sign = 1 if "gain" in said else -1
        assert int(item["answer"]) == int(first) + sign * int(second)
    for item in items.items("science", language, "test"):
        said, _ = read(item["question"])
        rule = listed["rules"][said["property"][0]]
        (concept,) = said[rule["attribute"]]
        assert sorted(item["choices"]) == sorted(rule["values"])
        (group,) = rule["values"][item["choices"][item["answer"]]].values()
        assert concept in group


def test_choices_are_balanced() -> None:
    for language in LANGUAGES:
        answers = [item["answer"] for item in items.items("science", language, "test")]
        assert all(30 <= answers.count(position) <= 90 for position in range(4))


def test_text_is_a_function_of_its_arguments_alone() -> None:
    program = (
        "from harness.embedded import corpora, items, lexicon\n"
        "import hashlib, sys\n"
        "assert not {'torch', 'transformers', 'vllm'} & set(sys.modules)\n"
        "text = corpora.general('bn', 300, 7) + corpora.ability('math', 'te', 50, 7)\n"
        "text += [str(items.items('science', 'zh', 'dev'))]\n"
        "text += [corpora.fingerprint('bn'), str(sorted(lexicon.load('es').new))]\n"
        "print(hashlib.sha256('\\n'.join(text).encode()).hexdigest())\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1
    assert corpora.general("bn", 300, 7) != corpora.general("bn", 300, 8)


def test_fingerprints_change_with_their_own_language_only(tmp_path, monkeypatch) -> None:
    before = {code: corpora.fingerprint(code) for code in LANGUAGES}
    for path in languages.FOLDER.glob("*.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "es.yaml").write_text(
        (tmp_path / "es.yaml").read_text(encoding="utf-8").replace("libros", "tomos"),
        encoding="utf-8",
    )
    monkeypatch.setattr(languages, "FOLDER", tmp_path)
    after = {code: corpora.fingerprint(code) for code in LANGUAGES}
    assert [code for code in LANGUAGES if before[code] != after[code]] == ["es"]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: corpora.ability("maths", "en", 1, 0), "did you mean 'math'"),
        (lambda: items.items("math", "en", "tset"), "did you mean 'test'"),
        (lambda: items.items("history", "en", "test"), "allowed are math, science"),
        (lambda: items.items("science", "es", "dev", 10**5), "ask for fewer"),
    ],
)
def test_mistakes_are_told_in_one_line(call, told: str) -> None:
    from maec.errors import InputError

    with pytest.raises(InputError, match=told) as caught:
        call()
    assert "\n" not in str(caught.value)
