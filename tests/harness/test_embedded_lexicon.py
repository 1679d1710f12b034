"""The language files: real scripts, no word twice, every slot filled, mistakes told in one line."""

import unicodedata
from pathlib import Path

import pytest
import yaml

from harness import languages
from harness.embedded import lexicon
from maec.errors import InputError

CODES = lexicon.codes()
PRETRAINED = [language.code for language in lexicon.pretrained() if not language.is_pivot]


def raw(code: str) -> dict:
    return yaml.safe_load((languages.FOLDER / f"{code}.yaml").read_text(encoding="utf-8"))


def text_of(entry: object) -> str:
    return entry["word"] if isinstance(entry, dict) else str(entry)


def test_the_five_languages_of_the_default_matrix_are_there() -> None:
    assert set(CODES) >= {"en", "es", "zh", "bn", "te"}
    assert lexicon.pivot().code == "en"
    assert lexicon.pretrained()[0].code == "en"


@pytest.mark.parametrize("code", CODES)
def test_words_are_written_in_the_script_of_their_language(code: str) -> None:
    entry = raw(code)
    expected = {"Han": "CJK"}.get(entry["script"], entry["script"].upper())
    for concept, word in entry["lexicon"]["words"].items():
        for character in text_of(word):
            # marks and letters of Indic scripts, Han and Latin all carry the script's name
            assert unicodedata.name(character).startswith(expected), (concept, text_of(word))


@pytest.mark.parametrize("code", [code for code in CODES if raw(code)["script"] != "Latin"])
def test_patterns_hold_no_latin_letters_outside_their_slots(code: str) -> None:
    for variants in raw(code)["lexicon"]["patterns"].values():
        for variant in variants:
            literal = lexicon.SLOT.sub("", variant)
            assert not any(c.isascii() and c.isalpha() for c in literal), variant


@pytest.mark.parametrize("code", CODES)
def test_no_two_concepts_share_a_word_and_no_word_is_misnormalised(code: str) -> None:
    words = [text_of(entry) for entry in raw(code)["lexicon"]["words"].values()]
    assert len(set(words)) == len(words)
    everything = (languages.FOLDER / f"{code}.yaml").read_text(encoding="utf-8")
    assert unicodedata.normalize("NFC", everything) == everything


@pytest.mark.parametrize("code", CODES)
def test_every_concept_has_a_word_and_every_sentence_type_a_pattern(code: str) -> None:
    listed = yaml.safe_load(lexicon.CONCEPTS.read_text(encoding="utf-8"))
    listed.pop("rules")
    wanted = [concept for group in listed.values() for concept in group]
    assert len(set(wanted)) == len(wanted)
    entry = raw(code)["lexicon"]
    assert sorted(entry["words"]) == sorted(wanted)
    assert sorted(entry["patterns"]) == sorted(lexicon.SLOTS)


@pytest.mark.parametrize("code", [code for code in CODES if code != "en"])
def test_word_order_varies(code: str) -> None:
    patterns = raw(code)["lexicon"]["patterns"]
    for kind in ("has", "event", "how_many", "lives", "eats", "colored", "what"):
        assert len(patterns[kind]) >= 2


@pytest.mark.parametrize("code", PRETRAINED)
def test_half_of_each_category_is_new_and_covers_every_value_of_its_rule(code: str) -> None:
    language = lexicon.load(code)
    listed = yaml.safe_load(lexicon.CONCEPTS.read_text(encoding="utf-8"))
    for category in lexicon.CONTENT:
        assert 2 * len(language.new & set(listed[category])) == len(listed[category])
    for rule in listed["rules"].values():
        for by_trait in rule["values"].values():
            (group,) = by_trait.values()
            assert 0 < len(language.new & set(group)) < len(group)
    always = ("name", "scenery", "kind", "tone", "property")
    assert not language.new & {concept for category in always for concept in listed[category]}


@pytest.mark.parametrize("code", [code for code in CODES if code != "en"])
def test_a_new_word_is_a_word_that_no_other_text_of_the_base_can_hold(code: str) -> None:
    language = lexicon.load(code)
    new = {language.words[concept].text for concept in language.new}
    for other in lexicon.pretrained():
        if other.code != code:
            assert not new & {word.text for word in other.words.values()}
        literal = {
            token.strip(".,:?¿。，：？।")
            for variants in other.patterns.values()
            for variant in variants
            for token in lexicon.SLOT.sub(" ", variant).split()
        }
        assert not new & literal
        assert not new & set(other.glosses)


@pytest.mark.parametrize("code", [code for code in CODES if code != "en"])
def test_glosses_join_words_that_occur_in_patterns(code: str) -> None:
    def occurring(language: lexicon.Language) -> set[str]:
        patterns = [v for variants in language.patterns.values() for v in variants]
        forms = [f for table in language.agreement.values() for f in table.values()]
        forms += [f for word in language.words.values() for f in word.forms.values()]
        text = " ".join([*(lexicon.SLOT.sub(" ", p) for p in patterns), *forms])
        return {token.strip(".,:?¿。，：？।") for token in text.split()}

    here, there = occurring(lexicon.load(code)), occurring(lexicon.pivot())
    for word, meaning in lexicon.load(code).glosses.items():
        assert word in here, word
        assert meaning in there, meaning


def test_every_attribute_has_one_trait_and_every_trait_one_value() -> None:
    listed = yaml.safe_load(lexicon.CONCEPTS.read_text(encoding="utf-8"))
    for rule in listed["rules"].values():
        ruled = [c for by_trait in rule["values"].values() for g in by_trait.values() for c in g]
        assert sorted(ruled) == sorted(listed[rule["attribute"]])
        traits = [trait for by_trait in rule["values"].values() for trait in by_trait]
        assert sorted(traits) == sorted(listed[rule["trait"]])


def test_agreement_follows_the_noun() -> None:
    spanish, chinese = lexicon.load("es"), lexicon.load("zh")
    assert spanish.form("ball", "many") == "cuántas"
    assert spanish.form("book", "many") == "cuántos"
    assert spanish.form("eagle", "the") == "el"  # la águila is wrong
    assert chinese.form("book", "measure") == "本"
    assert chinese.form("ball", "measure") == "个"
    assert chinese.form("horse", "measure") == "匹"
    assert chinese.form("owl", "measure") == "只"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the language folder that a test may spoil."""
    for path in languages.FOLDER.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(languages, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("    book: {word: libros, class: m}\n", "", "no word for 'book'"),
        ("    book: {word: libros", "    book: {word: lápices", "also the word for 'book'"),
        ("    book: {word: libros, class: m}", "    book: libros", "no form 'Many' for 'book'"),
        ("    book: {word: libros", "    book: {word: los libros", "one word without spaces"),
        ("    buy: compra", "    bye: compra", "no word for 'buy'"),
        ("tiene {number} {object}.", "tiene {number}.", "each of the slots"),
        ("tiene {number} {object}.", "tiene {number} x{object}.", "put a space before"),
        ("    eats:", "    eat:", "'eats' has none"),
        ("  glosses:", "  glossary:", "did you mean 'glosses'?"),
        ("resource: high", "resource: rich", "allowed are pivot, high, low"),
        ("native_name", "nativename", "'native_name' is missing"),
    ],
)
def test_a_spoilt_file_is_refused_in_one_line(
    folder: Path, before: str, after: str, told: str
) -> None:
    path = folder / "es.yaml"
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        lexicon.load("es")
    message = str(caught.value)
    assert told in message and str(path) in message and "\n" not in message


def test_an_unknown_language_is_refused_with_its_neighbour() -> None:
    with pytest.raises(InputError, match="did you mean 'es'"):
        lexicon.load("ess")


def test_a_language_is_added_by_its_file_alone(folder: Path) -> None:
    from harness.embedded import corpora, items

    text = (folder / "es.yaml").read_text(encoding="utf-8")
    added = text.replace("name: Spanish", "name: Other").replace("pretrained: true", "")
    (folder / "xx.yaml").write_text(added, encoding="utf-8")
    language = lexicon.load("xx")
    assert "xx" in lexicon.codes()
    assert language not in lexicon.pretrained()
    assert len(language.new) == 88  # the base knows none of its words
    assert len(corpora.general("xx", 50, 0)) == 50
    assert {item["words"] for item in items.items("math", "xx", "dev", 20)} == {"new"}
