"""Coverage-guided, a process a target: ``python -m tests.fuzz --inputs 1000000``."""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

DONE = re.compile(r"^Done (\d+) in", re.MULTILINE)
COVERED = re.compile(r"cov: (\d+) ft: (\d+)")
FOUND = "=== Uncaught Python exception: ==="


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="over all targets")
    parser.add_argument("--target", action="append", help="all by default")
    parser.add_argument("--findings", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--one", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        _fuzz(*given.one)
    given.findings.mkdir(parents=True, exist_ok=True)
    from tests.fuzz.targets import TARGETS

    failed, inputs, began = 0, 0, time.monotonic()
    for name in given.target or TARGETS:
        start = time.monotonic()
        code, text = _run(name, given.inputs * TARGETS[name][1] // 1000, given.findings)
        seconds = time.monotonic() - start
        done, covered = DONE.search(text), COVERED.findall(text)
        if code or done is None:
            failed += 1
            told = text[text.find(FOUND) :][:3000] if FOUND in text else text[-3000:]
            print(f"{name}: found something after {seconds:.0f} s\n{told}", flush=True)
            continue
        inputs += int(done[1])
        blocks, features = covered[-1]
        print(
            f"{name}: {int(done[1]):,} inputs, {seconds:.0f} s, coverage {blocks} blocks and "
            f"{features} features, nothing found",
            flush=True,
        )
    print(f"{inputs:,} inputs in {time.monotonic() - began:.0f} s; findings in {failed} targets")
    return 1 if failed else 0


def _run(name: str, runs: int, findings: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.fuzz", "--one", name, str(runs), str(findings)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    return done.returncode, done.stdout + done.stderr


def _fuzz(name: str, runs: str, findings: str) -> None:
    import atheris

    # numba compiles the kernels, and knows nothing of coverage
    with atheris.instrument_imports(include=["maec", "harness"], exclude=["maec.kernels"]):
        from tests.fuzz.targets import TARGETS
    TARGETS[name][0](b"")  # what is imported on first use takes no input's time
    options = [
        f"-atheris_runs={runs}", f"-artifact_prefix={findings}/{name}-", "-max_len=400",
        "-len_control=0", "-timeout=120", "-rss_limit_mb=4096", "-seed=1",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], TARGETS[name][0])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
