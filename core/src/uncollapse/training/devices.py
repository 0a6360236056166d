"""The accelerator of a run: device, processes, precision."""

from __future__ import annotations

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType
from accelerate.state import AcceleratorState

from ..config.pipeline import TrainingConfig
from ..errors import ConfigError

__all__ = ["make_accelerator"]


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """Return an accelerator for the device and precision asked for; processes are those of ``torchrun``, if any.

    Raises:
        ConfigError: The device is not here, or the launcher asks for sharding.
    """
    present = {
        "auto": True,
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present[config.device]:
        here = ", ".join(name for name, found in present.items() if found)
        raise ConfigError(f"training.device: {config.device!r} is not available here; available: {here}")
    precision = "bf16" if config.precision == "bf16" else "no"
    # Accelerate keeps one setting per process and refuses a second; a notebook trains several pipelines.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    accelerator = Accelerator(
        # Accelerate joins the processes of a launcher on the CPU only when it is told that this is where they are.
        cpu=config.device == "cpu" or (config.device == "auto" and not torch.accelerator.is_available()),
        mixed_precision=precision,
        # An objective that ignores the prior, or a weight annealed from 0, leaves parameters without gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ConfigError(
            f"the launcher asks for {accelerator.distributed_type.value}, but uncollapse trains with plain data "
            "parallelism; start it with torchrun"
        )
    return accelerator
