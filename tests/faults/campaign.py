"""Which faults happen, in which order: all decided by a seed."""

import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

from tests.faults.command import NotSurvived
from tests.faults.environment import FAULTS, Skipped
from tests.faults.interruptions import INTERRUPTIONS, chain
from tests.faults.report import Trial
from tests.faults.scene import Scene

ENGINES = ("transformers", "vllm")

VICTIMS = tuple(dict.fromkeys(one.victim for one in INTERRUPTIONS))

FAMILIES = (*VICTIMS, *FAULTS)

FEW = 5
"""Interruptions in a chain, at most, before a run may finish."""


class Campaign:
    """Interruptions first, ``faults`` of them, then every fault of the environment once."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        faults: int,
        only: Sequence[str],
        engines: Sequence[str],
        name: str | None,
        minutes: float,
    ) -> None:
        self._folder = folder
        self._seed = seed
        self._kinds = [one for one in INTERRUPTIONS if one.victim in only]
        self._interruptions = faults if self._kinds else 0
        self._others = {
            (family, title): fault
            for family, faults in FAULTS.items()
            for title, fault in faults.items()
            if family in only and (name is None or name in title)
        }
        self._engines = engines
        self._until = time.monotonic() + 60 * minutes
        self._scenes: dict[str, Scene] = {}
        self.undisturbed: dict[str, float] = {}
        self.total = self._interruptions + len(self._others)
        self.done = 0

    @property
    def untried(self) -> int:
        """Faults that are not injected yet, and where the time is up never will be."""
        return self.total - self.done

    def run(self) -> Iterator[Trial]:
        """Everything, one after the other, until the time is up."""
        for number in count():
            if self.done >= self._interruptions or time.monotonic() > self._until:
                break
            trial = self._chain(number, min(FEW, self._interruptions - self.done))
            # none, where the run was over too soon: another chain makes up for it
            self.done += len(trial.faults)
            yield trial
        for number, (family, title) in enumerate(self._others):
            if time.monotonic() > self._until:
                break
            fault = self._others[family, title]
            again = f"--seed {self._seed + number} --only {family} --name '{title}'"
            trial = self._trial(title, number, again, fault)
            self.done += 1
            yield trial

    def _chain(self, number: int, most: int) -> Trial:
        kinds = self._kinds
        victims = dict.fromkeys(kind.victim for kind in kinds)
        only = "".join(f" --only {victim}" for victim in victims)
        return self._trial(
            f"chain {number}",
            number,
            f"--seed {self._seed + number} --faults {most}{only}",
            lambda scene, chance: chain(scene, chance, chance.choices(kinds, k=most)),
        )

    def _trial(
        self, name: str, number: int, again: str, fault: Callable[[Scene, random.Random], None]
    ) -> Trial:
        engine = self._engines[number % len(self._engines)]
        scene = self._scene(engine)
        scene.faults.clear()
        seed = self._seed + number
        scene.note(trial=name, seed=seed)
        problem = skipped = None
        began = time.monotonic()
        try:
            fault(scene, random.Random(seed))
        except Skipped as error:
            skipped = str(error)
        except NotSurvived as error:
            problem = str(error)
            self._keep(scene, name)
        finally:
            scene.end()
        scene.note(ended=name, problem=problem, skipped=skipped)
        return Trial(
            name=name,
            engine=engine,
            faults=[*scene.faults],
            seconds=round(time.monotonic() - began - scene.left, 2),
            again=f'make chaos CHAOS="{again} --engine {engine}"',
            log=f"{scene.log}.err" if problem else "",
            problem=problem,
            skipped=skipped,
        )

    def _scene(self, engine: str) -> Scene:
        if engine not in self._scenes:
            scene = self._scenes[engine] = Scene(self._folder / engine, engine)
            scene.prepare()
            self.undisturbed[engine] = round(scene.seconds, 2)
        return self._scenes[engine]

    def _keep(self, scene: Scene, name: str) -> None:
        """Keep the home of a fault that was not survived, to be looked at."""
        if scene.home.is_dir():
            kept = scene.folder / f"{name}, not survived".replace("*", "all")
            shutil.copytree(scene.home, kept, dirs_exist_ok=True)
