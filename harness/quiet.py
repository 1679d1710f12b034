"""Leave the terminal to the harness: libraries keep their bars and warnings to themselves."""

import logging
import os
import warnings


def quiet() -> None:
    """Settle it for this process, before vllm, lm_eval or datasets are imported."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    warnings.filterwarnings("ignore", module="vllm")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("lm_eval", "lm-eval", "vllm", "transformers", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
