"""A merge as a stream of tensors: straight into a live engine, nothing on any disk.

What a merge is made *of* (trained models, masks) does lie on a disk, as artifacts; the merge
itself, and the ability weights of MAEC, are computed on the way.
"""

from collections.abc import Iterator
from typing import Any

from harness.execute import merge_config, merge_options, recipe
from harness.steps import Step

STREAMED = ("combine", "mergekit")
"""Kinds of steps whose result is a pure function of their inputs, tensor by tensor."""


def streams(step: Step) -> bool:
    """Whether :func:`tensors` can make the step's model."""
    return step.kind in STREAMED


def stored(step: Step) -> list[Step]:
    """The steps whose artifacts must exist before the model of ``step`` can be served."""
    if not streams(step):
        return [step]
    needed: list[Step] = []
    for part in step.inputs.values():
        # ability weights are computed on the way, from what they are extracted from
        needed += part.inputs.values() if part.kind == "extract" else [part]
    return list({part.key: part for part in needed}.values())


def tensors(step: Step) -> Iterator[tuple[str, Any]]:
    """The model's tensors by name, as the artifact has them that the step would leave.

    Raises:
        InputError: the parts do not fit together.
    """
    if step.kind == "combine":
        from maec.merge import merged_tensors

        return merged_tensors(recipe(step, extracted=False))
    return _mergekit_tensors(step)


def _mergekit_tensors(step: Step) -> Iterator[tuple[str, Any]]:
    """What mergekit's ``run_merge`` writes, with the tensors taken from its executor instead.

    mergekit adds models up in the order of a set: without PYTHONHASHSEED=0, under which artifacts
    are made, the last bit may differ.
    """
    import torch
    from mergekit.architecture import get_architecture_info
    from mergekit.config import MergeConfiguration
    from mergekit.graph import Executor
    from mergekit.io.tasks import LoaderCache
    from mergekit.plan import MergePlanner
    from transformers import set_seed

    config = MergeConfiguration.model_validate(merge_config(step))
    options = merge_options(step)
    set_seed(step.settings.get("seed", 0))
    LoaderCache().setup(options=options)
    planner = MergePlanner(
        config,
        get_architecture_info(config, options),
        options=options,
        out_model_config=config.referenced_models()[0].config(options.trust_remote_code),
    )
    # plan_in_memory() fails in mergekit 0.1.5 (pydantic cannot check its generic task type); these
    # are the tasks that it would wrap
    planner._plan()
    dtype = getattr(torch, config.out_dtype)
    names = {id(task): info.name for info, task in planner._tensors}
    for task, tensor in Executor([task for _, task in planner._tensors]).run(quiet=True):
        yield names[id(task)], tensor.to(dtype)
