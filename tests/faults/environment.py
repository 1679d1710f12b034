"""Disks that are full or read-only, files that are damaged, clocks that jump, a second run."""

import os
import random
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.command import Command, NotSurvived
from tests.faults.interruptions import await_moment
from tests.faults.scene import STOPPED, Scene, require_clear

Fault = Callable[[Scene, random.Random], None]

KILLED = frozenset({-9})


class Skipped(Exception):
    """This fault cannot be made here, and why."""


def small_disk(scene: Scene, chance: random.Random) -> None:
    """A disk that is too small, and then is not."""
    with _disk(scene) as resize:
        size = _size(scene.folder / "complete")
        resize(int(size * chance.uniform(0.05, 1.1)))
        scene.inject("small disk")
        scene.stopped(scene.run())
        resize(4 * size)
        scene.finish(exact=False)


def full_disk(scene: Scene, chance: random.Random) -> None:
    """A disk that somebody else fills while a run is at work, and empties."""
    with _disk(scene) as resize:
        resize(4 * _size(scene.folder / "complete"))
        run = scene.start()
        moment = await_moment(scene, chance, run)
        ballast = scene.home / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(b"\0" * 2**16):
                pass
        scene.inject("full disk", moment=moment)
        scene.stopped(scene.wait(run))
        ballast.unlink()
        scene.finish(exact=False)


def small_files(scene: Scene, chance: random.Random) -> None:
    """A limit on the size of a file (RLIMIT_FSIZE), which is then lifted."""
    import resource

    largest = max(path.stat().st_size for path in (scene.folder / "complete").rglob("*"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    scene.inject("limit on files")
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest * chance.uniform(0.01, 1)), before[1]))
    try:
        run = scene.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    scene.stopped(scene.wait(run))
    scene.finish(exact=False)


def read_only_home(scene: Scene, chance: random.Random) -> None:
    """A home that cannot be written: empty, or of a run that was killed."""
    if chance.random() < 0.5:
        scene.fresh()
        scene.home.mkdir()
    else:
        kill(scene, chance)
    with _read_only(scene.home):
        scene.inject("read-only home")
        if not scene.stopped(scene.run()):
            raise NotSurvived("a run in a read-only home says that it did its work")
    scene.finish(exact=False)


def read_only_results(scene: Scene, chance: random.Random) -> None:
    """A folder for results that cannot be written."""
    scene.restore("complete")
    results = scene.folder / "results"
    results.mkdir(exist_ok=True)
    report = ("report", "faults", "--out", f"{results}/report.md")
    export = ("export", "faults-set", "--matrix", "faults", "--out", f"{results}/set")
    arguments = chance.choice([report, (*export, "--licence", "Apache-2.0")])
    with _read_only(results):
        scene.inject("read-only results")
        ended = scene.wait(scene.command(*arguments))
        if ended.code != 2:
            raise NotSurvived(f"exit code {ended.code} where 2 is right: {ended.last_line}")
        require_clear(ended, STOPPED)
    require_clear(scene.wait(scene.command(*arguments)), frozenset())
    shutil.rmtree(results)


def cut(path: Path, chance: random.Random) -> None:
    """Keep a random beginning of a file."""
    os.truncate(path, chance.randrange(path.stat().st_size))


def flip(path: Path, chance: random.Random) -> None:
    """Change one bit."""
    with path.open("r+b") as file:
        file.seek(place := chance.randrange(path.stat().st_size))
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1 << chance.randrange(8)]))


def delete(path: Path, _: random.Random) -> None:
    """Remove a file."""
    path.unlink()


DAMAGES: Mapping[str, Callable[[Path, random.Random], None]] = {
    "cut short": cut,
    "bit flipped": flip,
    "deleted": delete,
}


def damaged_artifact(kind: str, pattern: str, damage: str) -> Fault:
    """A file of a finished artifact is damaged, and a run needs the artifact again."""

    def fault(scene: Scene, chance: random.Random) -> None:
        scene.restore("first")
        found = sorted((scene.home / "artifacts" / kind).glob(f"*/{pattern}"))
        path = chance.choice(found)
        DAMAGES[damage](path, chance)
        scene.inject(f"{kind}: {pattern} {damage}", path=path)
        scene.finish(exact=False, examined=True)

    return fault


def damaged_base(damage: str) -> Fault:
    """The base itself is damaged, and somebody brings the right one back."""

    def fault(scene: Scene, chance: random.Random) -> None:
        scene.restore("first")
        weights, kept = scene.folder / "base" / "model.safetensors", scene.folder / "kept"
        shutil.copy2(weights, kept)
        try:
            DAMAGES[damage](weights, chance)
            scene.inject(f"base: {damage}")
            ended = scene.run("matrix.yaml")
            # with other finite weights it is another model, with scores and artifacts of its own
            if not scene.stopped(ended) and damage != "bit flipped":
                raise NotSurvived("a damaged base was used")
        finally:
            os.replace(kept, weights)
        scene.finish(exact=False)

    return fault


def damaged_store(name: str, damage: str, home: str) -> Fault:
    """The store or its snapshot is damaged, with work left to do or with none."""

    def fault(scene: Scene, chance: random.Random) -> None:
        scene.restore(home)
        DAMAGES[damage](scene.home / name, chance)
        scene.inject(f"{name}: {damage}")
        scene.finish(exact=False)

    return fault


def cut_log(scene: Scene, chance: random.Random) -> None:
    """The log of a killed run's last transactions is cut short."""
    wal = _killed_with_log(scene, chance)
    cut(wal, chance)
    scene.inject("store.duckdb.wal: cut short")
    scene.finish(exact=False)


def stale_log(scene: Scene, chance: random.Random) -> None:
    """The log of an earlier state lies beside the store, as after a careless restore."""
    wal = _killed_with_log(scene, chance)
    kept = scene.folder / "kept.wal"
    shutil.copy2(wal, kept)
    scene.finish()
    shutil.move(kept, wal)
    scene.inject("store.duckdb.wal: of an earlier state")
    scene.finish(exact=False)


def jumping_clock(scene: Scene, chance: random.Random) -> None:
    """A clock that jumps by hours and by years, back and forth, during runs and between them."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        raise Skipped("libfaketime is not installed (on Debian: apt-get install faketime)")
    clock = scene.folder / "clock"
    environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_CACHE_DURATION": "1",
        "NO_FAKE_STAT": "1",
    }
    jumps = ["+3h", "-3h", "+2d", "-2d", "+9y", "-9y"]
    scene.fresh()
    for end in (True, False):
        clock.write_text("+0")
        run = scene.start(environment=environment)
        for _ in range(3):
            moment = await_moment(scene, chance, run)
            clock.write_text(jump := chance.choice(jumps))
            scene.note(jump=jump, moment=moment)
        scene.inject("clock jumps")
        if end:
            _kill(run)
            require_clear(scene.wait(run), KILLED)
        else:
            require_clear(scene.wait(run), frozenset())
    scene.finish()


def second_run(scene: Scene, chance: random.Random) -> None:
    """Somebody starts the same again while it runs."""
    scene.fresh()
    run = scene.start()
    moment = await_moment(scene, chance, run)
    scene.inject("second run", moment=moment)
    require_clear(scene.wait(scene.start()), STOPPED)
    require_clear(scene.wait(run), STOPPED)
    scene.finish()


def kill(scene: Scene, chance: random.Random) -> None:
    """A run that is killed at a random moment."""
    scene.fresh()
    run = scene.start()
    await_moment(scene, chance, run)
    _kill(run)
    require_clear(scene.wait(run), KILLED)
    scene.home.mkdir(exist_ok=True)


def _kill(run: Command) -> None:
    for driver in run.victims("driver"):
        driver.kill()


def _killed_with_log(scene: Scene, chance: random.Random) -> Path:
    """The log of transactions in a home whose run was killed while there was one."""
    wal = scene.home / "store.duckdb.wal"
    for _ in range(10):
        kill(scene, chance)
        if wal.is_file() and wal.stat().st_size:
            return wal
    raise Skipped("ten killed runs left no log of transactions")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def _disk(scene: Scene) -> Iterator[Callable[[int], None]]:
    """A home on a file system of its own, and what sets its size in bytes."""
    scene.fresh()
    scene.home.mkdir()
    _mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", scene.home)
    try:
        yield lambda size: _mount("-o", f"remount,size={size}", scene.home)
    finally:
        subprocess.run(["umount", scene.home], check=True)


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    """By a mount for root, whom modes do not hold back."""
    if os.geteuid():
        _set_modes(folder, lambda mode: mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
        try:
            yield
        finally:
            _set_modes(folder, lambda mode: mode | stat.S_IWUSR)
        return
    _mount("--bind", folder, folder)
    try:
        _mount("-o", "remount,ro,bind", folder)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _set_modes(folder: Path, change: Callable[[int], int]) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(change(path.stat().st_mode))


def _mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise Skipped(f"no file system can be mounted here: {done.stderr.strip()}")


_FILES = {
    "train": ("model.safetensors", "manifest.json", "config.json", "tokenizer.json"),
    "locate": ("*.safetensors", "manifest.json"),
    "extract": ("*.safetensors", "manifest.json"),
    "combine": ("model.safetensors", "manifest.json", "config.json", "tokenizer.json"),
    "mergekit": ("model.safetensors", "manifest.json", "config.json", "tokenizer.json"),
}

FAULTS: Mapping[str, Mapping[str, Fault]] = {
    "disk": {
        "small disk": small_disk,
        "full disk": full_disk,
        "limit on files": small_files,
        "read-only home": read_only_home,
        "read-only results": read_only_results,
    },
    "artifacts": {
        **{f"base: {damage}": damaged_base(damage) for damage in DAMAGES},
        **{
            f"{kind}: {file} {damage}": damaged_artifact(kind, file, damage)
            for kind, files in _FILES.items()
            for file in files
            for damage in DAMAGES
        },
    },
    "store": {
        **{
            f"{name}: {damage}, {home}": damaged_store(name, damage, home)
            for home in ("first", "complete")
            for name in ("store.duckdb", "snapshot.duckdb")
            for damage in DAMAGES
        },
        "store.duckdb.wal: cut short": cut_log,
        "store.duckdb.wal: of an earlier state": stale_log,
        "second run": second_run,
    },
    "clock": {"clock jumps": jumping_clock},
}
"""By family and name."""
