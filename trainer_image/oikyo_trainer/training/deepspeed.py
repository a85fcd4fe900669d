"""The DeepSpeed settings for ZeRO 1 to 3. Only JSON is built here: `deepspeed` itself is imported by
transformers, and only when these settings are given to it.

"auto" is filled in by transformers from the training arguments, so that no number stands twice.
"""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]  # DeepSpeed's own JSON


def zero_settings(stage: int, *, cuda: bool) -> Settings:
    """The settings of ZeRO `stage` (Rajbhandari et al. 2020), optimizer and schedule left to torch."""
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
