"""lm-eval's models as an engine has them: silent, and aware of answers that were cut off.

lm-eval gives back texts alone, so that an answer which ran into its limit looks like any other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def silent(model: type) -> type:
    """The lm-eval model without its own progress bars, which it has no setting for.

    ``cut`` holds the texts of its last generations that ended at their limit. It is ``broken``
    after an error in its midst: what it was asked then may still be waiting in it.
    """

    class Silent(model):
        cut: set[str]
        broken = False

        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
            with self._whole():
                return super().loglikelihood(requests, disable_tqdm=True)

        def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any:
            self.cut = set()
            with self._whole():
                return super().generate_until(requests, disable_tqdm=True)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> Any:
            with self._whole():
                return super().loglikelihood_rolling(requests, disable_tqdm=True)

        @contextmanager
        def _whole(self) -> Iterator[None]:
            self.broken = True
            yield
            self.broken = False

        def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = True, **_: Any) -> Any:
            return super()._loglikelihood_tokens(requests, disable_tqdm=True, **_)

    return Silent


def vllm_model() -> type:
    """lm-eval's model for vLLM."""
    from lm_eval.models.vllm_causallms import VLLM

    class Model(silent(VLLM)):
        def _model_generate(self, requests: Any, generate: bool = False, **options: Any) -> Any:
            outputs = super()._model_generate(requests, generate=generate, **options)
            if generate:
                ended = (output.outputs[0] for output in outputs)
                self.cut |= {one.text for one in ended if one.finish_reason == "length"}
            return outputs

    return Model


def transformers_model() -> type:
    """lm-eval's model for transformers."""
    from lm_eval.models.huggingface import HFLM

    class Model(silent(HFLM)):
        def _model_generate(
            self, context: Any, max_length: int, stop: list[str], **options: Any
        ) -> Any:
            tokens = super()._model_generate(context, max_length, stop, **options)
            if tokens.shape[1] == max_length:
                for row in tokens[:, context.shape[1] :].tolist():
                    text = self.tok_decode(row)
                    ended = self._ends(row) or any(one and one in text for one in stop)
                    self.cut |= set() if ended else {text}
            return tokens

        def _ends(self, tokens: list[int]) -> bool:
            """Whether the model itself said that this is the end."""
            ends = self.model.generation_config.eos_token_id
            known = {self.eot_token_id, *(ends if isinstance(ends, list) else [ends])}
            return not known.isdisjoint(tokens)

    return Model
