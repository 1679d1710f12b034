"""Artifacts in an object store: whole or not there, fetched once, and bit for bit what was made."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import artifacts, doctor, object_store, pointers
from harness import remote as shared
from harness.execute import execute
from harness.home import living_in, pointer_path
from harness.manifests import as_text, sealed
from harness.steps import Step, missing
from maec.errors import Damaged, InputError
from tests.conftest import CHECKOUT

STEP = Step("train", {"seed": 1}, label="ability math en")

Filesystem = fsspec.AbstractFileSystem


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield "memory://bucket/maec" if request.param == "memory" else f"file://{tmp_path}/shared"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def there(tmp_path: Path, home: Path) -> Path:
    """Another machine's MAEC_HOME."""
    return tmp_path / "there"


def make(step: Step, content: dict[str, bytes], **manifest: object) -> dict[str, object]:
    """The artifact of a step, as if it had been made here."""
    for name, data in content.items():
        (step.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (step.folder / name).write_bytes(data)
    return seal(step, bytes=sum(map(len, content.values())), **manifest)


def seal(step: Step, **manifest: object) -> dict[str, object]:
    common = {"key": step.key, "kind": step.kind, "label": step.label, "fingerprint": "f"}
    made = sealed({**common, "seconds": 0.1, **manifest}, step.folder)
    (step.folder / "manifest.json").write_text(as_text(made), encoding="utf-8")
    return made


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def files_at(url: str) -> list[str]:
    files, root = fsspec.url_to_fs(url)
    return [path.removeprefix(root.rstrip("/")) for path in files.find(root)]


def file_at(url: str, ending: str) -> tuple[Filesystem, str]:
    files, root = fsspec.url_to_fs(url)
    (path,) = (path for path in files.find(root) if path.endswith(ending))
    return files, path


PARTS = st.from_regex(r"[A-Za-z0-9_ é-][A-Za-z0-9_.é -]{0,8}", fullmatch=True)
FILES = st.dictionaries(
    st.lists(PARTS, min_size=1, max_size=2).map("/".join), st.binary(max_size=99), min_size=1
).filter(lambda found: not any(f"{a}/" in b for a in found for b in found if a != b))


@given(FILES)
@settings(max_examples=15, deadline=None)
def test_what_is_fetched_is_what_was_published(tmp_path_factory, written: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("round")
    url = f"file://{folder}/shared"
    with living_in(folder / "here"):
        made = make(STEP, {f"a{name}": data for name, data in written.items()})
        before = content(STEP.folder)
        shared.publish(STEP, url)
    with living_in(folder / "there"):
        shared.learn([STEP], url)
        assert STEP.done and not STEP.here
        assert artifacts.manifest_of(STEP) == made
        artifacts.require_sound(STEP)
        assert STEP.here and content(STEP.folder) == before


def test_what_is_known_to_lie_elsewhere_is_not_made_again(url: str, there: Path) -> None:
    merge = Step("combine", {}, {"math": STEP}, label="merge")
    made = make(STEP, {"model.safetensors": b"weights"}, fingerprint="abc")
    assert shared.known([STEP, merge]) == []
    shared.publish(STEP, url)
    sent = files_at(url)
    assert len(sent) == 2
    with living_in(there):
        shared.learn([STEP, merge], url)
        assert missing([merge]) == [merge]
        # the step cannot be made: its kind's work would fail
        assert execute(STEP) == made
        assert not STEP.here
        assert shared.publish(STEP, url) == shared.known([STEP])[0]
    assert files_at(url) == sent


def test_a_link_is_published_as_what_it_leads_to(url: str, there: Path, tmp_path: Path) -> None:
    step = Step("fetch", {"model": "org/model", "revision": None}, label="fetch org/model")
    blob = tmp_path / "blob"
    blob.write_bytes(b"weights")
    step.folder.mkdir(parents=True)
    (step.folder / "model.safetensors").symlink_to(blob)
    seal(step, bytes=7)
    shared.publish(step, url)
    blob.unlink()
    assert not step.here and step.done  # the hub's cache was emptied
    for home in (step.folder.parents[2], there):
        with living_in(home):
            shared.learn([step], url)
            artifacts.require_sound(step)
            assert content(step.folder)["model.safetensors"] == b"weights"


@pytest.mark.parametrize("broken", ["put", "pipe_file"])
def test_a_broken_upload_is_no_artifact_and_is_completed(
    url: str, there: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    make(STEP, {"a": b"1", "b": b"2"})
    files, _ = fsspec.url_to_fs(url)

    def breaks(self: Filesystem, given: object, *others: object, **_: object) -> None:
        if broken == "put":  # one file is there, and not all of the manifest is
            files.put_file(given[0], others[0][0])
        else:
            with files.open(given, "wb") as file:
                file.write(others[0][:20])
        raise ConnectionError("reset by peer")

    with monkeypatch.context() as patched:
        patched.setattr(type(files), broken, breaks)
        with pytest.raises(OSError, match="reset by peer"):
            shared.publish(STEP, url)
    assert files_at(url) and shared.known([STEP]) == []
    with living_in(there):
        shared.learn([STEP], url)
        assert not STEP.done
    shared.publish(STEP, url)
    with living_in(there):
        shared.learn([STEP], url)
        artifacts.require_sound(STEP)
        assert content(STEP.folder) | {"manifest.json": b""} == {
            **{"a": b"1", "b": b"2"},
            "manifest.json": b"",
        }


def overwrite(files: Filesystem, path: str) -> None:
    files.pipe_file(path, b"weightz")


def remove(files: Filesystem, path: str) -> None:
    files.rm(path)


@pytest.mark.parametrize(("harm", "said"), [(overwrite, "BLAKE3"), (remove, "missing")])
def test_a_damaged_copy_is_told_and_replaced(
    url: str, there: Path, harm: Callable[[Filesystem, str], None], said: str
) -> None:
    make(STEP, {"model.safetensors": b"weights"})
    shared.publish(STEP, url)
    with living_in(there):
        shared.learn([STEP], url)
        harm(*file_at(url, "model.safetensors"))
        with pytest.raises(Damaged, match=f"{STEP.key}.*damaged.*{said}.*run again") as told:
            artifacts.require_sound(STEP)
        assert url in str(told.value) and "\n" not in str(told.value)
        assert list(STEP.folder.parent.iterdir()) == []
        shared.learn([STEP], url)
        assert not STEP.done
    # who has it still, or made it anew, replaces it
    shared.publish(STEP, url)
    with living_in(there):
        shared.learn([STEP], url)
        artifacts.require_sound(STEP)
        assert content(STEP.folder)["model.safetensors"] == b"weights"


def test_what_is_damaged_here_is_fetched_again(url: str, home: Path) -> None:
    make(STEP, {"model.safetensors": b"weights"})
    shared.publish(STEP, url)
    (STEP.folder / "model.safetensors").write_bytes(b"weightz")
    with pytest.raises(Damaged, match="run again"):
        artifacts.require_sound(STEP)
    artifacts.require_sound(STEP)
    assert content(STEP.folder)["model.safetensors"] == b"weights"


def test_what_is_gone_from_the_store_is_forgotten(url: str, there: Path) -> None:
    others = [Step("train", {"seed": seed}) for seed in range(2, 4)]
    for step in (STEP, *others):
        make(step, {"model.safetensors": b"weights"})
        shared.publish(step, url)
    with living_in(there):
        shared.learn([STEP, *others], url)
        files, path = file_at(url, f"{shared.known([STEP])[0].name}.json")
        files.rm(path)
        shared.learn([STEP, *others], url)
        assert [step.done for step in (STEP, *others)] == [False, True, True]
        assert not pointer_path(STEP.kind, STEP.key).exists()


def test_many_steps_cost_one_listing(url: str, there: Path, monkeypatch) -> None:
    steps = [Step("train", {"seed": seed}) for seed in range(20)]
    for step in steps[:3]:
        make(step, {"model.safetensors": b"weights"})
        shared.publish(step, url)
    asked: list[str] = []
    files, _ = fsspec.url_to_fs(url)
    for name in ("ls", "cat_file"):
        real = getattr(type(files), name)

        def counted(self, path, *args, _real=real, _name=name, **named):
            asked.append(_name)
            return _real(self, path, *args, **named)

        monkeypatch.setattr(type(files), name, counted)
    with living_in(there):
        shared.learn(steps, url)
        assert sorted(asked) == ["cat_file"] * 3 + ["ls"]
        asked.clear()
        shared.learn(steps, url)
        assert asked == ["ls"]


def test_the_making_that_is_meant_is_the_one_that_is_used(url: str, there: Path) -> None:
    """Two machines that made a step with other weights do not mix them up."""
    make(STEP, {"model.safetensors": b"weights"}, created="now")
    meant = shared.publish(STEP, url)
    with living_in(there):
        make(STEP, {"model.safetensors": b"others"}, created="then")
        other = shared.publish(STEP, url)
        shared.take([STEP], [meant])
        assert STEP.done and not STEP.here
        artifacts.require_sound(STEP)
        assert content(STEP.folder)["model.safetensors"] == b"weights"
        assert shared.known([STEP]) == [meant]
        shared.learn([STEP], url)
        assert shared.known([STEP]) == [meant]
        shared.take([STEP], [other])
        artifacts.require_sound(STEP)
        assert content(STEP.folder)["model.safetensors"] == b"others"


FETCHES = """
import sys
from pathlib import Path
from fsspec.implementations.local import LocalFileSystem
from harness.artifacts import require_sound
from harness.steps import Step

real = LocalFileSystem.get_file

def counted(self, source, target, *args, **named):
    with open(sys.argv[1], "a") as book:
        print(Path(source).name, file=book)
    return real(self, source, target, *args, **named)

LocalFileSystem.get_file = counted
print("ready", flush=True)
sys.stdin.readline()
require_sound(Step("train", {"seed": 1}))
"""


def test_processes_on_one_machine_fetch_once(tmp_path: Path, there: Path) -> None:
    make(STEP, {"a.safetensors": os.urandom(2**20), "b": b"2"})
    url = f"file://{tmp_path}/shared"
    shared.publish(STEP, url)
    with living_in(there):
        shared.learn([STEP], url)
    book = tmp_path / "book"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"MAEC_HOME": str(there)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", FETCHES, book], cwd=CHECKOUT, env=environment, **pipes
        )
        for _ in range(2)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.communicate("go\n")
        assert process.returncode == 0
    assert sorted(book.read_text().split()) == ["a.safetensors", "b"]
    with living_in(there):
        assert STEP.here


def test_a_store_that_cannot_be_used_is_refused(tmp_path: Path, home: Path) -> None:
    (tmp_path / "file").touch()
    for url, said in {
        "shared/maec": "no URL",
        "nosuch://bucket": "nosuch",
        "s3://bucket/maec": "s3fs",
        "ftp://me:secret@host/maec": "no password",
        f"file://{tmp_path}/file/maec": "cannot be kept there",
    }.items():
        with pytest.raises(InputError, match=said) as refused:
            shared.require_reachable(url)
        assert "\n" not in str(refused.value) and "secret" not in str(refused.value)
    shared.require_reachable(f"file://{tmp_path}/new/maec")
    assert files_at(f"file://{tmp_path}/new/maec") == []


def test_trouble_on_the_way_is_not_lasting(
    url: str, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ClientError(Exception):
        """What a provider's library would raise."""

    make(STEP, {"model.safetensors": b"weights"})
    shared.publish(STEP, url)
    with living_in(there):
        shared.learn([STEP], url)
        with monkeypatch.context() as patched:

            def fails(*_: object, **__: object) -> None:
                raise ClientError("slow\ndown")

            for name in ("get", "cat", "ls"):
                patched.setattr(type(fsspec.url_to_fs(url)[0]), name, fails)
            with pytest.raises(OSError, match="slow down"):
                artifacts.require_sound(STEP)
            with pytest.raises(OSError, match="slow down"):
                shared.learn([STEP], url)
        artifacts.require_sound(STEP)


def test_the_doctor_knows_what_lies_elsewhere(url: str, there: Path) -> None:
    made = make(STEP, {"model.safetensors": b"weights"}, created="2026-01-02T00:00:00+00:00")
    pointer = shared.publish(STEP, url)
    with living_in(there):
        shared.learn([STEP], url)
        (there / "artifacts").mkdir()
        doctor.repair()  # a store that is gone is restored, from pointers too
        found = doctor.examine()
        assert (found.findings, found.gone) == ([], 0)
        path = pointer_path(STEP.kind, STEP.key)
        path.write_text(json.dumps({"url": url, "manifest": {**made, "fingerprint": "other"}}))
        with pytest.raises(Damaged, match="doctor"):
            pointers.read(STEP)
        (finding,) = doctor.examine().findings
        assert finding.where == path
        doctor.repair()
        assert not STEP.done and doctor.examine().gone == 1
        shared.learn([STEP], url)
        assert shared.known([STEP]) == [pointer]
        assert object_store.holds(pointer)
