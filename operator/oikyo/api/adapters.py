"""spec.training: the methods, and the settings of the small parts that they train beside the base."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import ATOMIC, Fraction, Model, Rule, in_words

LoRAVariant = Literal["Standard", "RsLoRA", "DoRA"]
Method = Literal["Full", "LoRA", "QLoRA", "IA3", "OFT", "LayerNorm", "PromptTuning"]
ADAPTERS: tuple[Method, ...] = (
    "LoRA",
    "QLoRA",
    "IA3",
    "OFT",
    "LayerNorm",
    "PromptTuning",
)
"""Methods that leave the base as it is and train small parts beside it."""

_MODULE = "^[A-Za-z_][A-Za-z0-9_.]*$"
ModuleName = Annotated[
    str,
    Field(
        max_length=128,
        pattern=_MODULE,
        json_schema_extra=in_words(
            Rule(
                f"self.matches('{_MODULE}')",
                "write the name of a layer as the model's code has it, for example q_proj",
            ),
            instead_of=("pattern",),
        ),
    ),
]


class PromptTuning(Model):
    """Learned vectors in front of every row (Lester et al. 2021)."""

    virtual_tokens: Annotated[
        int,
        Field(
            ge=1,
            le=1024,
            description="Vectors that are learned and put before the tokens of every row; each takes "
            "one token of the model's context. Default: 20.",
        ),
    ] = 20


class OFT(Model):
    """Orthogonal factors of the weights (Qiu et al. 2023); names as in peft."""

    block_size: Annotated[
        int,
        Field(
            ge=2,
            le=1024,
            description="Inputs of a layer that are turned together; larger blocks learn more and cost "
            "more. Default: 32.",
        ),
    ] = 32


class Quantization(Model):
    """How the frozen base is held while adapters learn on it (QLoRA, Dettmers et al. 2023)."""

    bits: Annotated[
        Literal[4, 8],
        Field(
            description="Bits of one frozen weight: 4 (NF4, double quantization) or 8 (LLM.int8). "
            "Default: 4."
        ),
    ] = 4


class LoRA(Model):
    """Low-rank adapters (Hu et al. 2021); names as in peft."""

    rank: Annotated[
        int, Field(ge=1, le=1024, description="Rank r of the adapter. Default: 16.")
    ] = 16
    alpha: Annotated[
        int,
        Field(
            ge=1, le=4096, description="Scale alpha; the update is scaled by alpha/r. Default: 32."
        ),
    ] = 32
    dropout: Annotated[
        Fraction, Field(description='Dropout before the adapter. Default: "0.05".')
    ] = "0.05"
    variant: Annotated[
        LoRAVariant,
        Field(
            description="RsLoRA scales by alpha / sqrt(rank) (Kalajdzievski 2023), which keeps high "
            "ranks learning; DoRA learns the length of each weight vector apart from its direction "
            "(Liu et al. 2024), slower and often better at low ranks. Default: Standard."
        ),
    ] = "Standard"
    target_modules: Annotated[
        tuple[ModuleName, ...],
        Field(
            max_length=32,
            description="Linear layers that get an adapter, by the last part of their name. "
            "Default: all but the task's head. Example: [q_proj, v_proj].",
            json_schema_extra=ATOMIC,
        ),
    ] = ()
