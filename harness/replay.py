"""An lm-eval model that answers as another one did: from the items of its scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from maec.errors import InputError

Item = Mapping[str, Any]


class Replay(LM):
    """Answers from ``items``, by task name and in the task's order: rows of the store's items.

    lm-eval then scores them anew, as it did when the model itself answered. Whether a choice would
    have been generated greedily is not stored: the False here says nothing.
    """

    def __init__(self, items: Mapping[str, Sequence[Item]]) -> None:
        super().__init__()
        self._items = items

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        return [self._item(request)["output"] for request in requests]

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        return [(self._item(one)["loglikelihoods"][one.idx], False) for one in requests]

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        return [self._item(request)["loglikelihoods"][0] for request in requests]

    def apply_chat_template(self, *_: Any, **__: Any) -> str:
        """Nothing: what a chat template made of a question is stored, the template is not."""
        return ""

    @property
    def tokenizer_name(self) -> str:
        return ""

    def _item(self, request: Instance) -> Item:
        """The item that a request asks again.

        Raises:
            InputError: it asks something else.
        """
        item = self._items[request.task_name][request.doc_id]
        if not request.args[0]:
            request.arguments = (item["prompt"], *request.args[1:])
        if request.args[0] != item["prompt"]:
            raise InputError(
                f"task {request.task_name}, item {item['id']}: this program asks it in other "
                "words than were asked; use the commit that scored it"
            )
        return item
