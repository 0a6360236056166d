"""The accelerator of a run: device, processes, precision."""

from __future__ import annotations

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType
from accelerate.state import AcceleratorState

from .config.pipeline import TrainingConfig
from .errors import ConfigError

__all__ = ["choose_device", "make_accelerator"]


def choose_device(name: str, place: str) -> str:
    """Return the device that a name stands for: itself, or for ``auto`` a GPU where there is one.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        place: Field or option that asks; opens the message.

    Raises:
        ConfigError: The device is not available here.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if present[device])
    if not present[name]:
        here = ", ".join(("auto", *(device for device, found in present.items() if found)))
        raise ConfigError(f"{place}: {name!r} is not available here; available: {here}")
    return name


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """Return an accelerator for the device and precision asked for; processes are those of ``torchrun``, if any.

    Raises:
        ConfigError: The device is not here, or the launcher asks for sharding.
    """
    chosen = choose_device(config.device, "training.device")
    precision = "bf16" if config.precision == "bf16" else "no"
    # Accelerate keeps one setting per process and refuses a second; a notebook trains several pipelines.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    accelerator = Accelerator(
        # Accelerate joins the processes of a launcher on the CPU only when it is told that this is where they are.
        cpu=chosen == "cpu",
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
