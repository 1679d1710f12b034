"""Trainings of several processes, on any nodes: Ray Train starts them, as torchrun would."""

import tempfile
from typing import Any

import ray

from harness.failed import failed
from harness.on_ray.process import died
from harness.on_ray.work import Work


# what is done again is decided where the task is sent from
@ray.remote(max_retries=0, num_cpus=0)
def train(work: Work, on_gpus: bool) -> Any:
    """As a task that makes a step alone; this one waits until there is room for all processes."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import LoggingConfig
    from ray.train.v2.api.exceptions import WorkerGroupError

    with tempfile.TemporaryDirectory() as folder:
        trainer = TorchTrainer(
            _take_part,
            train_loop_config={"work": work},
            # what is exchanged of tensors in memory, and of those on GPUs
            torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if on_gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=work.step.processes,
                use_gpu=on_gpus,
                resources_per_worker={"GPU": 1, "CPU": 1} if on_gpus else {"CPU": work.threads},
            ),
            # nothing lies there in the end: models go where those of one process go
            run_config=RunConfig(
                name="training",
                storage_path=folder,
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )
        try:
            return trainer.fit().return_value
        except WorkerGroupError as error:
            return _first(list(error.worker_failures.values()))
        except BaseException as error:
            return failed(error)


def _take_part(config: dict[str, Any]) -> Any:
    """What each of the processes does; what the first returns is the training's."""
    from harness import artifacts
    from harness.one_step import take_part
    from maec.distributed import rank

    work: Work = config["work"]
    work.prepare()
    take_part(work.step, work.report)
    return work.done(artifacts.manifest_of(work.step)) if rank() == 0 else None


def _first(errors: list[Exception]) -> Exception:
    """What went wrong: others fail because they wait for one that is gone."""
    gone = [error for error in errors if isinstance(error, ray.exceptions.RayError)]
    return died(gone[0]) if gone else failed(errors[0])
