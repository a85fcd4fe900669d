"""The DeepSpeed settings for ZeRO 1 to 3, and what has to be said to it on a CPU.

"auto" is filled in by transformers from the training arguments, so that no number stands twice.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ..errors import Refused

SHM_OP = "deepspeed_shm_comm"
"""DeepSpeed's shared-memory collectives between the processes of a CPU node."""

Settings = dict[str, Any]  # DeepSpeed's own JSON


HOST = {"device": "cpu", "pin_memory": True}


def zero_settings(stage: int, *, cuda: bool, offload: str = "None") -> Settings:
    """The settings of ZeRO `stage` (Rajbhandari et al. 2020), optimizer and schedule left to torch.

    `offload` as in training.offload: what a GPU leaves to its host (Ren et al. 2021).
    """
    zero: Settings = {
        "stage": stage,
        "contiguous_gradients": True,
        # Overlap needs CUDA streams; on a CPU it only costs buffers.
        "overlap_comm": cuda,
    }
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
        zero["stage3_param_persistence_threshold"] = "auto"
        zero["reduce_bucket_size"] = "auto"
        zero["stage3_prefetch_bucket_size"] = "auto"
    if offload != "None":
        zero["offload_optimizer"] = HOST
    if offload == "Parameters":
        zero["offload_param"] = HOST
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "zero_optimization": zero,
        # torch's AdamW: DeepSpeed's CPU optimizer is a C++ extension, compiled at first use.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31 - 1,
        "wall_clock_breakdown": False,
    }


def prepare_deepspeed(*, cuda: bool) -> None:
    """Import DeepSpeed; on a CPU so that it compiles nothing, as a worker may have no compiler.

    There, without its shared-memory collectives, which it would build at first use, gloo does their work.
    An image that was built with DS_BUILD_SHM_COMM=1 has them ready, and then they are used.
    """
    if not cuda:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        import deepspeed.ops
        from deepspeed.git_version_info import installed_ops
    except ImportError:
        raise Refused(
            "DeepSpeedMissing",
            "training.strategy is a ZeRO stage, and this image holds no deepspeed",
            next_step="Use the project's trainer image, install oikyo[deepspeed], or write "
            "training.strategy: DDP.",
        ) from None
    if not cuda and not installed_ops.get(SHM_OP, False):
        deepspeed.ops.__compatible_ops__[SHM_OP] = False


def whole(model: Any, stage: int) -> AbstractContextManager[None]:
    """Have the weights that ZeRO-3 parted while it loaded them whole in every process; what rank 0 puts in stays.

    The engine, which gathers them layer by layer, is made after what is done here.
    """
    if stage < 3:
        return nullcontext()
    import deepspeed

    parted = deepspeed.zero.GatheredParameters
    gathered: AbstractContextManager[None] = parted(model.parameters(), modifier_rank=0)
    return gathered


def join_deepspeed(*, cuda: bool) -> None:
    """Tell DeepSpeed of the process group that accelerate made.

    On a CPU nobody does before the model is loaded, and ZeRO-3, which shards while it loads, would
    take itself for alone.
    """
    import deepspeed.comm

    deepspeed.comm.init_distributed(
        dist_backend="nccl" if cuda else "gloo", auto_mpi_discovery=False, verbose=False
    )
