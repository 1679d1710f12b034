"""What is installed is what was locked, byte for byte; its flaws and its licences are told."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, environment

REQUIREMENTS = CHECKOUT / "requirements"
TOOLS = CHECKOUT / "build" / "tools" / "bin" / "python"
LANES = ("cpu", "gpu")


def locked(file: str) -> dict[str, tuple[str, set[str]]]:
    """Version and hashes by name."""
    found = {}
    for entry in re.split(r"\n(?! )", (REQUIREMENTS / file).read_text("utf-8").strip()):
        if not entry.startswith("#"):
            pin, *hashes = entry.split(" \\\n    --hash=sha256:")
            name, version = pin.split("==")
            found[name] = (version, set(hashes))
    return found


@pytest.mark.parametrize("file", ["cpu.txt", "gpu.txt", "tools.txt"])
def test_every_locked_package_has_hashes(file: str) -> None:
    pins = locked(file)
    assert len(pins) > 20
    for name, (version, hashes) in pins.items():
        assert version and hashes, name
        assert all(re.fullmatch("[0-9a-f]{64}", found) for found in hashes), name


def test_no_lane_takes_the_other_lanes_torch() -> None:
    builds = [locked(f"{lane}.txt")["torch"] for lane in LANES]
    assert [version for version, _ in builds] == ["2.13.0+cpu", "2.13.0"]
    assert not builds[0][1] & builds[1][1]


def test_lock_files_are_installed_with_their_hashes_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "setup", "audit", f"VENV={tmp_path}/v", f"TOOLS={tmp_path}/t"],
        cwd=CHECKOUT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    installs = re.findall(r"pip install.*", done.stdout)
    assert len(installs) == 4, done.stdout + done.stderr
    for command in installs:
        assert "--require-hashes" in command or command.endswith("--no-build-isolation -e ."), (
            command
        )


def rows(section: str) -> list[list[str]]:
    text = (REQUIREMENTS / "LICENCES.md").read_text("utf-8").partition(f"\n## {section}\n")[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [line.strip("| ").split(" | ") for line in lines[2:]]


def test_the_licence_of_every_locked_package_is_listed() -> None:
    wanted = {(n, v, lane) for lane in LANES for n, (v, _) in locked(f"{lane}.txt").items()}
    listed = {
        (name, version, lane)
        for name, version, _, lanes in rows("All")
        for lane in lanes.split(", ")
    }
    assert listed == wanted, "run `make licences`"


def test_licences_are_those_that_installed_packages_state() -> None:
    compared = 0
    for name, version, listed, _ in rows("All"):
        try:
            metadata = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if metadata["Version"] == version and metadata["License-Expression"]:
            assert metadata["License-Expression"] == listed, name
            compared += 1
    assert compared > 50


def test_no_licence_binds_whoever_calls_a_package_and_none_that_binds_at_all_is_hidden() -> None:
    minded = {(name, version) for name, version, *_ in rows("To be minded")}
    for name, version, licence, _ in rows("All"):
        assert not re.search(r"(?<!L)GPL|Affero|SSPL|Commons Clause", licence), (name, licence)
        if re.search(r"LGPL|Lesser|MPL|Mozilla|EPL|CDDL|ropriet|NVIDIA|End User", licence):
            assert (name, version) in minded, (name, licence)
    assert {"mergekit", "certifi", "intel-openmp"} <= {name for name, _ in minded}


def audit(python: Path | str = sys.executable, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(python), str(REQUIREMENTS / "audit.py")],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ("raise SystemExit('no route to host')", 3, "NOT CHECKED: {all} of {all} packages; http"),
        ("print(json.dumps({'dependencies': [d() for d in pins]}))", 0, "no known vulnerability"),
        (
            "print(json.dumps({'dependencies': [d('torch') for d in pins]}))",
            1,
            "torch 2.13.0: PYSEC-1, CVE-1; mended in 2.14.0",
        ),
        (
            "print(json.dumps({'dependencies': [{'name': 'x', 'skip_reason': 'unknown'}]}))",
            3,
            "NOT CHECKED: {all} of {all} packages\n",
        ),
    ],
    ids=["nobody-answers", "none", "one", "skipped"],
)
def test_what_was_not_checked_never_looks_like_what_is_sound(
    tmp_path: Path, answer: str, code: int, said: str
) -> None:
    (tmp_path / "pip_audit.py").write_text(f"""
import functools, json, sys
known = dict(id="PYSEC-1", aliases=["CVE-1"], fix_versions=["2.14.0"], description="")
def told(name, version, bad=""):
    return dict(name=name, version=version, vulns=[known] if name == bad else [])
lines = open(sys.argv[-1].partition("=")[2]).read().split()
pins = [functools.partial(told, *line.split("==")) for line in lines]
{answer}
""")
    done = audit(PYTHONPATH=str(tmp_path))
    pins = {
        (n, v.partition("+")[0]) for lane in LANES for n, (v, _) in locked(f"{lane}.txt").items()
    }
    assert done.returncode == code, done.stderr
    assert said.format(all=len(pins)) in done.stdout
    assert ("NOT CHECKED" in done.stdout) == (code == 3)
    assert not done.stderr


@contextmanager
def advisories(bad: str) -> Iterator[str]:
    """The address of a stand-in for OSV that knows of one vulnerability."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = {
                "id": "PYSEC-2026-1", "summary": "a flaw", "aliases": ["CVE-2026-1"],
                "affected": [{"package": asked["package"], "ranges": [{
                    "type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}]}],
            }  # fmt: skip
            body = json.dumps({"vulns": [found]} if asked["package"]["name"] == bad else {})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.skipif(not TOOLS.exists(), reason="`make audit` was never run here")
def test_pip_audit_finds_what_an_advisory_says_of_a_package() -> None:
    ask = "import audit, json, sys; print(json.dumps(audit.audited(sys.argv[2:], sys.argv[1])))"
    with advisories("urllib3") as url:
        done = subprocess.run(
            [str(TOOLS), "-c", ask, url, "torch==2.13.0", "urllib3==2.8.0"],
            cwd=REQUIREMENTS,
            capture_output=True,
            text=True,
        )
    sound, bad = json.loads(done.stdout)
    assert (sound["name"], sound["vulns"]) == ("torch", [])
    (known,) = bad["vulns"]
    assert (known["id"], known["aliases"]) == ("PYSEC-2026-1", ["CVE-2026-1"])
    assert known["fix_versions"] == ["99.0"]
