"""A new language's file: true to other libraries, whole or not there, refused in one line."""

import shutil
from pathlib import Path

import pycountry
import pytest

from harness import languages
from harness.add_language import HIGH, add
from harness.embedded import corpora, lexicon
from harness.lm_eval_languages import FAMILIES, tasks_in
from harness.plan import make_plan
from harness.spec import load_matrix
from maec.errors import InputError
from tests.conftest import CHECKOUT
from tests.harness.test_tasks import matrix_file

SWAHILI = CHECKOUT / "tests" / "data" / "swahili.yaml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the language folder, to add to."""
    path = tmp_path / "languages"
    shutil.copytree(languages.FOLDER, path, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setattr(languages, "FOLDER", path)
    return path


@pytest.mark.parametrize(
    ("code", "native", "script"),
    [
        ("sw", "Kiswahili", "Latn"),
        ("de", "Deutsch", "Latn"),
        ("ru", "русский", "Cyrl"),
        ("hi", "हिन्दी", "Deva"),
        ("ar", "العربية", "Arab"),
        ("am", "አማርኛ", "Ethi"),
        ("ja", "日本語", "Jpan"),
        ("yue", "粵語", "Hant"),
        ("as", "অসমীয়া", "Beng"),
    ],
)
def test_names_and_script_are_those_of_the_iso_standards(
    folder: Path, code: str, native: str, script: str
) -> None:
    written = add(code).path
    found = languages.get(code)
    assert written == folder / f"{code}.yaml"
    iso = pycountry.languages.get(**{f"alpha_{len(code)}": code})
    # ISO 639-3 writes "Swahili (macrolanguage)" and "Yue Chinese"; CLDR calls the latter Cantonese
    assert iso.name.split(" (")[0] == found.name or code == "yue"
    assert pycountry.scripts.get(alpha_4=script).name.split(" (")[0] == found.script
    assert found.native_name == native
    assert languages.lexicon(code) is None


def test_resource_levels_are_those_of_the_files_that_were_there_before() -> None:
    assert len(set(HIGH.split())) == 7 + 18  # classes 5 and 4 of the taxonomy
    assert all(pycountry.languages.get(alpha_2=code) for code in HIGH.split())
    levels = {code: languages.get(code).resource for code in ("es", "zh", "bn", "te")}
    assert levels == {c: "high" if c in HIGH.split() else "low" for c in levels}


@pytest.mark.parametrize(("code", "spelled"), [("sw", "swh_Latn"), ("es", "spa_Latn")])
def test_tasks_are_those_that_lm_eval_lists(code: str, spelled: str) -> None:
    import lm_eval.tasks

    root = Path(lm_eval.tasks.__file__).parent
    folders = ("mgsm", "okapi", "belebele", "xnli", f"mmlu_prox/{code}", f"global_mmlu/full/{code}")
    index = lm_eval.tasks.TaskManager(
        include_path=[str(root / name) for name in folders], include_defaults=False
    ).all_tasks
    expected = {
        family: [name for part in (code, spelled) if (name := family.format(part)) in set(index)]
        for families in FAMILIES.values()
        for family in families
    }
    assert tasks_in(code) == expected
    assert expected["mgsm_direct_{}"] and expected["belebele_{}"]


def test_what_is_given_wins(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    add("sw", name="Kiunguja", native_name="no", script="Arabic", resource="high", out=out)
    found, words = languages.parse(out, out.read_text(encoding="utf-8"))
    assert (found.name, found.native_name, found.script, found.resource, words) == (
        *("Kiunguja", "no", "Arabic", "high"),
        None,
    )
    assert "sw" not in languages.available()
    assert "Joshi" not in out.read_text(encoding="utf-8")
    # no library knows this one's name, or script
    assert add("qaa", name="Mine", script="Latin").language.native_name == "Mine"


def test_what_is_missing_is_said(folder: Path) -> None:
    fon = "\n".join(add("fon").missing)
    assert "own name" in fon and "mgsm_direct_fon" in fon and "a lexicon" in fon
    swahili = add("sw", lexicon=SWAHILI).missing
    assert swahili == ["arc_sw, m_mmlu_sw, which lm-eval does not have"]


def test_a_lexicon_goes_into_the_file_with_its_comments(folder: Path) -> None:
    add("sw", lexicon=SWAHILI)
    assert "# rangi ya kijani" in (folder / "sw.yaml").read_text(encoding="utf-8")
    spoken = lexicon.load("sw")
    assert spoken.form("cup", "how_many") == "vingapi" and spoken.form("red", "link") == ""
    assert len(spoken.new) == 88 and not spoken.pretrained  # the base knows none of its words
    assert any("anaishi" in text for text in corpora.general("sw", 50, 0))


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("swahili", "did you mean 'sw' (Swahili)?"),
        ("Bengali", "did you mean 'bn'"),
        ("swa", "did you mean 'sw' (Swahili)?"),
        ("swh", "did you mean 'sw' (Swahili)?"),
        ("SW", "did you mean 'sw' (Swahili)?"),
        ("sw_KE", "did you mean 'sw-KE'"),
        ("swx-", "did you mean 'sw'?"),
        ("xx", "'xx' is no usual code of a language"),
        ("mul", "'mul' is no usual code of a language"),
        ("../sw", "is no usual code of a language"),
        ("", "is no usual code of a language"),
        ("qaa", "give one with --name"),
        ("sww", "give it with --script"),
        ("es", "es.yaml: exists already"),
    ],
)
def test_codes_that_cannot_be_added_are_refused(folder: Path, code: str, told: str) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError) as caught:
        add(code)
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace("book:", "bok:"), "no word for 'book'"),
        (lambda text: text.replace("{object} {number}.", "{object}.", 1), "each of the slots"),
        (lambda text: "pretrained: true\n" + text, "pretrained: the base was not trained on"),
        (lambda text: "word: {}\n" + text, "unknown key 'word'; did you mean 'words'?"),
        (lambda text: "- a list", "must be a mapping"),
        (lambda text: "words: {", "this is not YAML"),
    ],
)
def test_a_lexicon_that_does_not_fit_leaves_no_file(
    folder: Path, tmp_path: Path, change, told: str
) -> None:
    spoilt = tmp_path / "lexicon.yaml"
    spoilt.write_text(change(SWAHILI.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        add("sw", lexicon=spoilt)
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert str(spoilt) in str(caught.value)
    assert "sw" not in languages.available()


def test_a_place_that_cannot_be_written_to_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written: .*--out"):
        add("sw", out=Path("/dev/null/sw.yaml"))
    with pytest.raises(InputError, match=r"--lexicon: .*no such file"):
        add("sw", lexicon=tmp_path / "none.yaml")
    with pytest.raises(InputError, match="--resource: 'middle'; allowed are high, low"):
        add("sw", resource="middle")


def test_a_language_without_a_lexicon_does_for_questions_from_files(
    folder: Path, tmp_path: Path, home: Path
) -> None:
    add("sw")
    questions = tmp_path / "questions"
    questions.mkdir()
    for code in ("en", "sw"):
        (questions / f"{code}.tsv").write_text("Moja na moja?\t2\n", encoding="utf-8")
    local = {
        "abilities": ["mgsm"],
        "languages": ["sw"],
        "tasks": {"mgsm": {"files": "questions/{language}.tsv"}},
    }
    plan = make_plan(load_matrix(matrix_file(tmp_path, **local)))
    assert [cell.language for cell in plan.cells] == ["en", "sw"]
    # but it has no text to train on
    training = {"training": {"languages": {"steps": 1, "learning_rate": 1e-3}}}
    documents = {"documents": {"general": 9, "pivot": 9, "ability": 9, "translated": 9}}
    trained = matrix_file(tmp_path, **local, **training, **documents, methods=["f-cpt-l"])
    for refuse in (
        lambda: make_plan(load_matrix(trained)),
        lambda: load_matrix(matrix_file(tmp_path, languages=["te", "sw"])),
    ):
        with pytest.raises(InputError, match=r"sw.yaml: there is no lexicon") as caught:
            refuse()
        assert "\n" not in str(caught.value)
    assert "matrix.yaml: languages[1]: " in str(caught.value)
    # and is in nobody's way
    assert make_plan(load_matrix(matrix_file(tmp_path))).cells
    assert "sw" not in lexicon.codes()
