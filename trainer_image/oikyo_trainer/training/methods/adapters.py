"""Small trained parts beside a frozen base, as peft computes them: LoRA with its variants, IA3, OFT, norms
and vectors in front of every row.

`add_adapter` is called once, on the base with its head; the head of a classifier, with the layer that it
reads the row through, is always trained and saved with the adapter, because it begins at random.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oikyo.api.adapters import OFT, LoRA, PromptTuning
from oikyo.api.tasks import Task
from oikyo.api.training import TrainingSpec

from ...errors import Refused
from ...evaluation.prompted import without
from ..heads import BEFORE_HEADS, HEADS

SHOWN = 12
"""Names of layers that a message lists."""


def add_adapter(
    model: Any, task: Task, training: TrainingSpec, *, autocast: bool, resume: Path | None = None
) -> Any:
    """Freeze the base and put the method's adapters on it; `autocast` holds them in float32.

    The checkpoint `resume` follows, if there is one.
    """
    from peft import TaskType, get_peft_model

    headed = task != "TextGeneration"
    kind = TaskType.SEQ_CLS if headed else TaskType.CAUSAL_LM
    config = _config(kind, model, training, headed=headed)
    if headed:
        config.modules_to_save = head_names(model)
    if training.method == "IA3" and resume is not None:
        keep_layers(config, resume)
    try:
        adapted = get_peft_model(model, config, autocast_adapter_dtype=autocast)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise Refused(
            "MethodDoesNotFit",
            f"training.method {training.method} does not fit a {model.config.model_type} model: "
            f"{str(error).splitlines()[0]}",
            next_step="Write training.method: LoRA, which fits every model with linear layers.",
        ) from None
    if config.is_prompt_learning:
        keep_places(adapted, training.prompt_tuning.virtual_tokens)
        if headed:
            check_padding(adapted)
    return adapted


def _config(kind: Any, model: Any, training: TrainingSpec, *, headed: bool) -> Any:
    """peft's settings for the method."""
    if training.method == "IA3":
        return ia3_config(kind, model, headed=headed)
    if training.method == "OFT":
        return oft_config(kind, training.oft, model)
    if training.method == "LayerNorm":
        return norm_config(kind, model)
    if training.method == "PromptTuning":
        return prompt_config(kind, training.prompt_tuning, model)
    check_targets(model, training.lora.target_modules)
    return lora_config(kind, training.lora)


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


def oft_config(kind: Any, oft: OFT, model: Any) -> Any:
    """Orthogonal factors (Qiu et al. 2023) of all linear layers but the head's, by Cayley's transform."""
    from peft import OFTConfig

    names = linear_names(model)
    return OFTConfig(task_type=kind, r=0, oft_block_size=oft.block_size, target_modules=names)


def norm_config(kind: Any, model: Any) -> Any:
    """The norms alone (Zhao et al. 2023), by the names that the model gives them."""
    from peft import LNTuningConfig

    return LNTuningConfig(task_type=kind, target_modules=norm_names(model))


def prompt_config(kind: Any, tuning: PromptTuning, model: Any) -> Any:
    """Vectors in front of every row (Lester et al. 2021), begun as the embeddings of random tokens."""
    from peft import PromptTuningConfig

    text = model.config.get_text_config()
    return PromptTuningConfig(
        task_type=kind,
        num_virtual_tokens=tuning.virtual_tokens,
        prompt_tuning_init="SAMPLE_VOCAB",
        token_dim=model.get_input_embeddings().weight.shape[1],
        num_layers=text.num_hidden_layers,
        num_attention_heads=text.num_attention_heads,
        num_transformer_submodules=1,
    )


def keep_places(model: Any, number: int) -> None:
    """Drop the logits of the vectors, so that a row's answers have the places of its own tokens."""

    def drop(_: Any, __: Any, given: dict[str, Any], output: Any) -> Any:
        longer = output.logits.shape[1] > given["input_ids"].shape[1]  # not where adapters are off
        return without(output, number) if output.logits.dim() == 3 and longer else output

    model.register_forward_hook(drop, with_kwargs=True)


def check_padding(model: Any) -> None:
    """Refuse a classifier that reads the padding of a row as its end once tokens come as vectors."""
    import torch

    vocabulary = model.config.get_text_config().vocab_size
    row = torch.arange(1, 6)[None] % vocabulary
    padded = torch.nn.functional.pad(row, (0, 3), value=model.config.pad_token_id or 0)
    mask = torch.nn.functional.pad(torch.ones_like(row), (0, 3))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        alone = model(input_ids=row, attention_mask=torch.ones_like(row)).logits
        among = model(input_ids=padded, attention_mask=mask).logits
    model.train(was_training)
    if not torch.allclose(alone, among, atol=1e-3, rtol=1e-2):
        raise Refused(
            "MethodDoesNotFit",
            f"training.method PromptTuning does not fit a {model.config.model_type} classifier: it "
            "finds the end of a row by its tokens, which it does not see behind learned vectors",
            next_step="Write training.method: LoRA, or start from an encoder such as BERT.",
        )


def norm_names(model: Any) -> list[str]:
    """Last parts of the names of all norms, sorted."""
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if type(module).__name__.endswith(("LayerNorm", "RMSNorm"))
        }
    )


def ia3_config(kind: Any, model: Any, *, headed: bool) -> Any:
    """Learned factors (Liu et al. 2022): beside a head on all linear layers, else on those that peft names.

    An architecture that peft does not name gets a factor for each output of all its linear layers; of one that
    it names the inputs of what closes a feed-forward layer are scaled.
    """
    from peft import IA3Config
    from peft.utils import constants

    family = model.config.model_type
    targets = constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(family)
    feedforward = constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(family, [])
    if headed:
        targets = body_linears(model)
        feedforward = [name for name in targets if name.endswith(tuple(feedforward))]
    elif targets is None:
        targets, feedforward = linear_names(model), []
    return IA3Config(task_type=kind, target_modules=targets, feedforward_modules=feedforward)


def keep_layers(config: Any, checkpoint: Path) -> None:
    """Let IA3 go on with the layers that it began with: an older version had factors on fewer."""
    begun = type(config).from_pretrained(str(checkpoint))
    config.target_modules = begun.target_modules
    config.feedforward_modules = begun.feedforward_modules


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


def head_names(model: Any) -> list[str]:
    """Last parts of the names of a classifier's head and of what it reads the row through."""
    ends = (name.rpartition(".")[2] for name, _ in model.named_modules())
    return sorted({end for end in ends if end in (*HEADS, *BEFORE_HEADS)})


def linear_names(model: Any) -> list[str]:
    """Last parts of the names of all linear layers but the head's, sorted."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    found = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if _is_linear(module) and module is not head
    }
    return sorted(found - {*HEADS, *BEFORE_HEADS})


def body_linears(model: Any) -> list[str]:
    """Last two parts of the paths of all linear layers but those of the head and of what it reads through."""
    behind = {*HEADS, *BEFORE_HEADS}
    paths = [name.split(".") for name, module in model.named_modules() if _is_linear(module)]
    return sorted({".".join(path[-2:]) for path in paths if not behind & {*path}})


def _is_linear(module: Any) -> bool:
    """Linear layers, GPT-2's transposed ones, and those that bitsandbytes holds in few bits."""
    return type(module).__name__ in {"Linear", "Conv1D", "Linear4bit", "Linear8bitLt"}
