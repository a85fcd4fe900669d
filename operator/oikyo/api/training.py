"""spec.training: how to train."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .adapters import OFT, LoRA, Method, PromptTuning, Quantization
from .base import DECIMAL_PATTERN, Decimal, Fraction, Model, Rule, in_words
from .checkpoints import Checkpoints, EarlyStopping
from .general import General
from .preferences import Objective, Preference
from .together import TOGETHER
from .workers import WorkerResources

Truncation = Literal["End", "Start", "Middle", "Drop"]
"""What a row that is too long loses; Drop: the row is left out."""
LossOn = Literal["Answers", "LastAnswer", "All"]
"""Which tokens of a row are learned."""
Strategy = Literal["DDP", "FSDP", "ZeRO1", "ZeRO2", "ZeRO3"]
"""How processes share the work."""

_LEARNING_RATE = f"^Auto$|{DECIMAL_PATTERN}"


class TrainingSpec(Model):
    """How to train. Every `Auto` is resolved, and the value and its reason stand in status.resolved."""

    method: Annotated[
        Method,
        Field(
            description="Full trains every weight. LoRA trains low-rank adapters; QLoRA does so on a "
            "base held in 4 or 8 bits (GPU). IA3 learns one factor for each output of some layers, "
            "a hundredth of LoRA's weights. OFT turns the weights of each layer by orthogonal factors. "
            "LayerNorm trains the norms alone. PromptTuning learns vectors in front of every row. "
            "Default: LoRA."
        ),
    ] = "LoRA"
    objective: Annotated[
        Objective,
        Field(
            description="What is learned. Supervised: the answers of the rows. DPO and ORPO: to prefer "
            "chosen over rejected answers; ORPO needs no reference and learns the answers as well. KTO: "
            "from answers with a vote. All but Supervised are for TextGeneration. Default: Supervised."
        ),
    ] = "Supervised"
    preference: Annotated[
        Preference,
        Field(description="Settings of DPO, ORPO and KTO, used when objective is one of them."),
    ] = Preference()
    lora: Annotated[
        LoRA,
        Field(description="Adapter settings, used when method is LoRA or QLoRA. Default: rank 16."),
    ] = LoRA()
    oft: Annotated[OFT, Field(description="Settings of OFT. Default: blocks of 32.")] = OFT()
    prompt_tuning: Annotated[
        PromptTuning, Field(description="Settings of PromptTuning. Default: 20 virtual tokens.")
    ] = PromptTuning()
    quantization: Annotated[
        Quantization,
        Field(description="How the base is held, used when method is QLoRA. Default: 4 bits."),
    ] = Quantization()
    merge: Annotated[
        bool,
        Field(
            description="Whether a trained adapter is worked into the base's weights on release: true "
            "leaves a whole model that anything loads; false leaves the adapter alone, a few megabytes "
            "beside the base in the workspace, so that many tasks share one base. Default: true."
        ),
    ] = True
    epochs: Annotated[
        int, Field(ge=1, le=1000, description="Passes over the training split. Default: 3.")
    ] = 3
    max_steps: Annotated[
        int | None,
        Field(
            ge=1,
            le=100_000_000,
            description="Optimizer steps after which training ends, whatever epochs says. Default: none.",
        ),
    ] = None
    learning_rate: Annotated[
        str,
        Field(
            max_length=24,
            pattern=_LEARNING_RATE,
            description="Peak learning rate as text, above 0 and at most 1, or Auto (by method and "
            'task). Default: Auto. Example: "2e-4".',
            json_schema_extra=in_words(
                Rule(
                    f"self == 'Auto' || (self.matches('{DECIMAL_PATTERN}') "
                    "&& double(self) > 0.0 && double(self) <= 1.0)",
                    'write Auto, or a number above 0 and at most 1 as text, for example "2e-4"',
                ),
                instead_of=("pattern",),
            ),
        ),
    ] = "Auto"
    scheduler: Annotated[
        Literal["Linear", "Cosine", "Constant", "InverseSqrt", "WarmupStableDecay"],
        Field(
            description="Learning rate after warm-up: Linear and Cosine fall to 0 over the run, Constant "
            "stays, InverseSqrt falls with the root of the steps, WarmupStableDecay stays and falls to 0 "
            "over the last tenth. Default: Linear."
        ),
    ] = "Linear"
    warmup_steps: Annotated[
        int | None,
        Field(
            ge=0,
            le=100_000_000,
            description="Optimizer steps spent warming up, whatever warmupRatio says. Default: none. "
            "Example: 100.",
        ),
    ] = None
    warmup_ratio: Annotated[
        Fraction, Field(description='Share of the steps spent warming up. Default: "0.06".')
    ] = "0.06"
    weight_decay: Annotated[Decimal, Field(description='Weight decay. Default: "0.01".')] = "0.01"
    optimizer: Annotated[
        Literal["AdamW", "AdamW8bit", "Adafactor"],
        Field(
            description="AdamW keeps two numbers for each trained weight; AdamW8bit keeps them in 8 bits "
            "(GPU, bitsandbytes); Adafactor keeps one for each row and column of a matrix (Shazeer and "
            "Stern 2018). Default: AdamW."
        ),
    ] = "AdamW"
    dropout: Annotated[
        Fraction | None,
        Field(
            description="Share of activations dropped while learning, in place of what the base model's "
            'config says. Default: as the config says. Example: "0.2".'
        ),
    ] = None
    neftune_alpha: Annotated[
        Decimal | None,
        Field(
            description="Noise on the embeddings while learning, scaled by alpha / sqrt(tokens x width) "
            '(NEFTune, Jain et al. 2023). Default: none. Example: "5".'
        ),
    ] = None
    max_grad_norm: Annotated[
        Decimal,
        Field(
            description='Norm of all gradients of a step above which they are scaled down to it; "0" '
            'leaves them as they are. Default: "1".'
        ),
    ] = "1"
    label_smoothing: Annotated[
        Fraction,
        Field(
            description="Share of each label that is spread over all classes, or over the vocabulary, "
            "while learning; validation and verdict are without it. For objective Supervised. "
            'Default: "0". Example: "0.1".'
        ),
    ] = "0"
    batch_size: Annotated[
        int,
        Field(
            ge=1,
            le=65536,
            description="Rows of one optimizer step over all processes (the effective batch). Default: 32.",
        ),
    ] = 32
    micro_batch_size: Annotated[
        int | None,
        Field(
            ge=1,
            le=4096,
            description="Rows of one forward pass of one process; the rest of the batch is accumulated. "
            "Default: as many as fit resources.memory, at most 32 and the share of one process.",
        ),
    ] = None
    gradient_checkpointing: Annotated[
        Literal["Auto", "Always", "Never"],
        Field(
            description="Whether activations are computed again in the backward pass instead of kept: "
            "less memory, a step about a third slower, the same result. Auto: only where not one row "
            "fits without. Default: Auto."
        ),
    ] = "Auto"
    max_length: Annotated[
        int,
        Field(ge=8, le=1_048_576, description="Tokens after which a row is cut. Default: 512."),
    ] = 512
    truncation: Annotated[
        Truncation,
        Field(
            description="What a row of more than maxLength tokens loses: its End, its Start, its Middle; "
            "Drop leaves such rows out of the training. How many rows it concerns stands in "
            "status.resolved. Default: End."
        ),
    ] = "End"
    loss_on: Annotated[
        LossOn,
        Field(
            description="Which tokens are learned (TextGeneration, objective Supervised): every answer "
            "of a chat, its last one only, or all tokens, the prompt's too. Default: Answers."
        ),
    ] = "Answers"
    precision: Annotated[
        Literal["Auto", "Float32", "BFloat16"],
        Field(description="Arithmetic; Auto takes what the processor is fast at. Default: Auto."),
    ] = "Auto"
    seed: Annotated[
        int, Field(ge=0, le=2**31 - 1, description="Seed of everything random. Default: 42.")
    ] = 42
    early_stopping: Annotated[
        EarlyStopping | None,
        Field(
            description="Stop early by training.selectBy. Default: never, but the best weights are kept."
        ),
    ] = None
    select_by: Annotated[
        Literal[
            "loss",
            "accuracy",
            "f1_macro",
            "r2",
            "rmse",
            "mae",
            "pearson",
            "spearman",
            "preference_accuracy",
            "preference_margin",
        ],
        Field(
            description="Metric of the validation rows by which the best checkpoint is chosen and "
            "training is stopped early: loss; accuracy or f1_macro (TextClassification); r2, rmse, mae, "
            "pearson or spearman (TextRegression); "
            "preference_margin or, for pairs, preference_accuracy (DPO, ORPO, KTO). Default: loss."
        ),
    ] = "loss"
    checkpoints: Annotated[Checkpoints, Field(description="When to save and how much to keep.")] = (
        Checkpoints()
    )
    general: Annotated[
        General | None,
        Field(
            description="Rows of what the model is to go on knowing, measured before, during and after the "
            "training and mixed into it (TextGeneration). Default: none; docs/how-to/keep-what-it-knew.md."
        ),
    ] = None
    nodes: Annotated[
        int,
        Field(
            ge=1,
            le=512,
            description="Worker pods, at most one on a node where possible. Default: 1.",
        ),
    ] = 1
    min_nodes: Annotated[
        int | None,
        Field(
            ge=1,
            le=512,
            description="Fewest worker pods to go on with: when not all can start, the next attempt has "
            "as many as can run, resumes from the checkpoint and keeps batchSize; every later attempt "
            "is tried with all nodes first. For DDP and FSDP. Default: nodes. Example: 1.",
        ),
    ] = None
    start_deadline_seconds: Annotated[
        int | None,
        Field(
            ge=10,
            le=31_536_000,
            description="Seconds that a training may wait for all its pods to start. After that it starts "
            "with fewer where minNodes allows, else the job fails and names who is missing. Time in a "
            "queue does not count. Default: 120 to start with fewer, and never to fail.",
        ),
    ] = None
    processes_per_node: Annotated[
        int | None,
        Field(
            ge=1,
            le=64,
            description="Processes of one worker pod. Default: its GPUs, or 1.",
        ),
    ] = None
    strategy: Annotated[
        Strategy,
        Field(
            description="How processes share the work. DDP: each holds everything. FSDP (PyTorch FSDP2): "
            "each holds a part of weights, gradients and moments, and goes on with another number of "
            "processes. ZeRO1 to ZeRO3: DeepSpeed's stages. Default: DDP."
        ),
    ] = "DDP"
    tensor_parallel_size: Annotated[
        int,
        Field(
            ge=1,
            le=64,
            description="Processes of a worker pod that compute each layer together, every one with a "
            "part of its matrices, for layers that are too large or too slow for one GPU (strategy FSDP, "
            "method Full or LoRA, TextGeneration). They learn the same rows: rows are dealt to processes / "
            "tensorParallelSize groups. Default: 1.",
        ),
    ] = 1
    offload: Annotated[
        Literal["None", "Optimizer", "Parameters"],
        Field(
            description="What the GPUs leave to the memory of the host between steps, slower and smaller: "
            "Optimizer (ZeRO1 to ZeRO3) the moments, Parameters (FSDP, ZeRO3) weights and moments. One GPU "
            "alone offloads too. Default: None."
        ),
    ] = "None"
    resources: Annotated[
        WorkerResources, Field(description="What one worker pod asks for. Default: 1 CPU, no GPU.")
    ] = WorkerResources()

    rules: ClassVar[tuple[Rule, ...]] = TOGETHER

    @property
    def virtual_tokens(self) -> int:
        """Places of the model's context that learned vectors take."""
        return self.prompt_tuning.virtual_tokens if self.method == "PromptTuning" else 0

    def strategy_of(self, processes: int) -> Strategy:
        """What so many processes do: one has nobody to share state with, but a host to offload it to."""
        return self.strategy if processes > 1 or self.offload != "None" else "DDP"
