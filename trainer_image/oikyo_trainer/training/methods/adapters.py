"""Small trained parts beside a frozen base: LoRA with its variants, and IA3, as peft computes them.

`add_adapter` is called once, on the base with its head; the head of a classifier is always trained and
saved with the adapter, because it begins at random.
"""

from __future__ import annotations

from typing import Any

from oikyo.api.evaluation import Task
from oikyo.api.training import LoRA, TrainingSpec

from ...errors import Refused

SHOWN = 12
"""Names of layers that a message lists."""


def add_adapter(model: Any, task: Task, training: TrainingSpec, *, autocast: bool) -> Any:
    """Freeze the base and put the method's adapters on it; `autocast` holds them in float32."""
    from peft import TaskType, get_peft_model

    kind = TaskType.SEQ_CLS if task == "TextClassification" else TaskType.CAUSAL_LM
    if training.method == "IA3":
        config = ia3_config(kind, model)
    else:
        check_targets(model, training.lora.target_modules)
        config = lora_config(kind, training.lora)
    return get_peft_model(model, config, autocast_adapter_dtype=autocast)


def lora_config(kind: Any, lora: LoRA) -> Any:
    """peft's settings for low-rank adapters (Hu et al. 2021) and their variants."""
    from peft import LoraConfig

    return LoraConfig(
        task_type=kind,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=float(lora.dropout),
        target_modules=list(lora.target_modules) or "all-linear",
        use_rslora=lora.variant == "RsLoRA",
        use_dora=lora.variant == "DoRA",
    )


def ia3_config(kind: Any, model: Any) -> Any:
    """Learned factors (Liu et al. 2022) on the layers that peft names for the architecture.

    An architecture that peft does not name gets a factor for each output of all its linear layers.
    """
    from peft import IA3Config
    from peft.utils import constants

    family = model.config.model_type
    targets = constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(family)
    feedforward = constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(family, [])
    if targets is None:
        targets, feedforward = linear_names(model), []
    return IA3Config(task_type=kind, target_modules=targets, feedforward_modules=feedforward)


def check_targets(model: Any, wanted: tuple[str, ...]) -> None:
    """Refuse a name that no linear layer ends in, before peft trains fewer layers than asked for."""
    names = linear_names(model)
    paths = [name for name, module in model.named_modules() if _is_linear(module)]
    for target in wanted:
        if not any(path == target or path.endswith(f".{target}") for path in paths):
            raise Refused(
                "UnknownModule",
                f"training.lora.targetModules names {target!r}, and no linear layer of the base "
                f"ends in it; it has {', '.join(names[:SHOWN])}",
                next_step="Write names of that list, or leave targetModules out to adapt them all.",
            )


def linear_names(model: Any) -> list[str]:
    """Last parts of the names of all linear layers but the head's, sorted."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    found = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if _is_linear(module) and module is not head
    }
    return sorted(found - {"classifier", "score"})


def _is_linear(module: Any) -> bool:
    """Linear layers, GPT-2's transposed ones, and those that bitsandbytes holds in few bits."""
    return type(module).__name__ in {"Linear", "Conv1D", "Linear4bit", "Linear8bitLt"}
