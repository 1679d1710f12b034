"""Say which locked packages have known vulnerabilities, by what OSV knows of them.

Exit codes: 0 none has, 1 some have, 3 some could not be checked. OSV_URL names another service.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from locked import LANES, locked, public

URL = "https://api.osv.dev/v1/query"


def main() -> int:
    cpu, gpu = ({f"{n}=={public(v)}" for n, v in locked(lane).items()} for lane in LANES)
    found, why = [], ""
    try:
        for pins in (cpu, gpu - cpu):  # apart: pip-audit takes one version of a package
            found += audited(sorted(pins), os.environ.get("OSV_URL", URL))
    except ConnectionError as error:
        why = f"; {error}"
    checked = [entry for entry in found if "vulns" in entry]
    bad = [entry for entry in checked if entry["vulns"]]
    for entry in bad:
        for known in entry["vulns"]:
            names = ", ".join([known["id"], *known["aliases"]])
            mended = ", ".join(known["fix_versions"]) or "no version"
            print(f"{entry['name']} {entry['version']}: {names}; mended in {mended}")
    if bad:
        print(f"audit: {len(bad)} of {len(checked)} packages have known vulnerabilities")
    elif checked:
        print(f"audit: no known vulnerability in {len(checked)} packages")
    unchecked = len(cpu | gpu) - len(checked)
    if unchecked:
        print(f"audit: NOT CHECKED: {unchecked} of {len(cpu | gpu)} packages{why}")
    return 1 if bad else 3 if unchecked else 0


def audited(pins: Sequence[str], url: str) -> list[dict[str, Any]]:
    """What pip-audit says of each package.

    Raises:
        ConnectionError: it got no answer.
    """
    options = (
        *("--disable-pip", "--no-deps", "--progress-spinner=off", "--format=json"),
        *("--vulnerability-service=osv", f"--osv-url={url}"),
    )
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(pins))
        file.flush()
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *options, f"--requirement={file.name}"],
            capture_output=True,
            text=True,
        )
    try:
        return json.loads(done.stdout)["dependencies"]
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ConnectionError(f"{url} gave no answer: {reason[:200]}") from None


if __name__ == "__main__":
    sys.exit(main())
