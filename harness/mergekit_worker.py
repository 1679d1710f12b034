"""Run one merge with mergekit's Python API: ``python -m harness.mergekit_worker CONFIG OUT``.

``PYTHONHASHSEED`` is pinned because mergekit iterates over sets of models.
"""

import json
import os
import sys


def main() -> None:
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(
            sys.executable,
            [sys.executable, "-m", "harness.mergekit_worker", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    config, out = sys.argv[1:]
    run_merge(
        MergeConfiguration.model_validate(json.loads(config)),
        out,
        MergeOptions(copy_tokenizer=True, random_seed=0, write_model_card=True, quiet=True),
    )


if __name__ == "__main__":
    main()
