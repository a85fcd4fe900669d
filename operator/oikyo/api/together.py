"""Which settings of spec.training go together, and what to write where two do not."""

from __future__ import annotations

from .base import Rule

TOGETHER: tuple[Rule, ...] = (
    Rule(
        "!has(self.microBatchSize) || self.microBatchSize <= self.batchSize",
        "microBatchSize must be at most batchSize, which is the effective batch over all processes",
        ".microBatchSize",
    ),
    Rule(
        "!has(self.microBatchSize) || self.microBatchSize > self.batchSize"
        " || self.batchSize % self.microBatchSize == 0",
        "the batch is accumulated from whole micro-batches: write a microBatchSize that divides "
        "batchSize, or leave it out",
        ".microBatchSize",
    ),
    Rule(
        "self.method in ['LoRA', 'QLoRA'] || (self.lora.rank == 16 && self.lora.alpha == 32"
        " && double(self.lora.dropout) == 0.05 && self.lora.variant == 'Standard'"
        " && (!has(self.lora.targetModules) || size(self.lora.targetModules) == 0))",
        "only LoRA and QLoRA read these settings: write method: LoRA, or leave lora out",
        ".lora",
    ),
    Rule(
        "self.method == 'QLoRA' || self.quantization.bits == 4",
        "only QLoRA holds its base in few bits: write method: QLoRA, or leave quantization out",
        ".quantization",
    ),
    Rule(
        "self.method == 'OFT' || self.oft.blockSize == 32",
        "only OFT turns inputs in blocks: write method: OFT, or leave oft out",
        ".oft",
    ),
    Rule(
        "self.method == 'PromptTuning' || self.promptTuning.virtualTokens == 20",
        "only PromptTuning puts vectors in front of rows: write method: PromptTuning, or leave "
        "promptTuning out",
        ".promptTuning",
    ),
    Rule(
        "self.objective != 'Supervised' || double(self.preference.beta) == 0.1",
        "only preferences are weighed by beta: write objective: DPO, ORPO or KTO, or leave "
        "preference out",
        ".preference",
    ),
    Rule(
        "self.objective == 'KTO' || (double(self.preference.desirableWeight) == 1.0"
        " && double(self.preference.undesirableWeight) == 1.0)",
        "only votes are weighed as wanted and unwanted: write objective: KTO, or leave "
        "desirableWeight and undesirableWeight out",
        ".preference",
    ),
    Rule(
        "self.objective == 'Supervised' || double(self.labelSmoothing) == 0.0",
        "preferences have no labels to smooth: leave labelSmoothing out, or write objective: "
        "Supervised",
        ".labelSmoothing",
    ),
    Rule(
        "self.objective == 'Supervised' || !has(self.general)",
        "preferences hold to the base by preference.beta, and have no general rows: leave general out, "
        "or write objective: Supervised",
        ".general",
    ),
    Rule(
        "self.method != 'PromptTuning' || !has(self.general)",
        "PromptTuning leaves every weight as it was, so nothing is forgotten: leave general out, or "
        "write method: LoRA",
        ".general",
    ),
    Rule(
        "!has(self.general) || self.general.interpolation == 'Never' || self.method == 'Full' || self.merge",
        "interpolation works on whole weights: write training.merge: true, or general.interpolation: Never",
        ".general.interpolation",
    ),
    Rule(
        "self.objective == 'Supervised' || self.lossOn == 'Answers'",
        "preferences compare whole answers: leave lossOn out, or write objective: Supervised",
        ".lossOn",
    ),
    Rule(
        "self.method != 'PromptTuning' || !self.merge",
        "vectors in front of a row cannot be worked into weights: write training.merge: false",
        ".merge",
    ),
    Rule(
        "self.method != 'PromptTuning' || self.strategy != 'ZeRO3'",
        "the vectors of PromptTuning are read before ZeRO3 gathers them: write strategy: FSDP or ZeRO2",
        ".strategy",
    ),
    Rule(
        "self.optimizer != 'AdamW8bit' || self.resources.gpus > 0",
        "AdamW8bit computes on a GPU only: write training.resources.gpus: 1 or more, or optimizer: "
        "AdamW",
        ".optimizer",
    ),
    Rule(
        "self.optimizer == 'AdamW' || self.strategy == 'DDP'",
        "only AdamW's state is shared among processes: write optimizer: AdamW, or strategy: DDP",
        ".optimizer",
    ),
    Rule(
        "!(self.selectBy in ['preference_accuracy', 'preference_margin'])"
        " || self.objective != 'Supervised'",
        "preferences are measured where they are learned: write selectBy: loss, or an objective of "
        "DPO, ORPO or KTO",
        ".selectBy",
    ),
    Rule(
        "self.selectBy != 'preference_accuracy' || self.objective != 'KTO'",
        "votes are no pairs: write selectBy: preference_margin or loss",
        ".selectBy",
    ),
    Rule(
        "self.method != 'QLoRA' || self.resources.gpus > 0",
        "QLoRA computes on a GPU only: write training.resources.gpus: 1 or more, or method: LoRA",
        ".method",
    ),
    Rule(
        "self.method != 'QLoRA' || !(self.strategy in ['ZeRO3', 'FSDP'])",
        "ZeRO3 and FSDP cannot shard a base that is held in 4 or 8 bits: write strategy: DDP or ZeRO2",
        ".strategy",
    ),
    Rule(
        "self.objective == 'Supervised' || !(self.strategy in ['ZeRO3', 'FSDP'])",
        "preferences are compared before ZeRO3 or FSDP gathers a model: write strategy: DDP or ZeRO2",
        ".strategy",
    ),
    Rule(
        "!has(self.minNodes) || self.minNodes <= self.nodes",
        "minNodes is the fewest of nodes: write at most training.nodes",
        ".minNodes",
    ),
    Rule(
        "!has(self.minNodes) || self.minNodes == self.nodes || self.strategy in ['DDP', 'FSDP']",
        "only DDP and FSDP go on with another number of processes: write strategy: FSDP, or drop "
        "minNodes",
        ".minNodes",
    ),
    Rule(
        "self.offload == 'None' || self.resources.gpus > 0",
        "offload moves state from a GPU to its host, and a CPU has nowhere to move it: leave offload "
        "out, or write training.resources.gpus: 1 or more",
        ".offload",
    ),
    Rule(
        "self.offload != 'Optimizer' || self.strategy in ['ZeRO1', 'ZeRO2', 'ZeRO3']",
        "only ZeRO offloads the optimizer alone: write strategy: ZeRO1, ZeRO2 or ZeRO3, or, with "
        "FSDP, offload: Parameters",
        ".offload",
    ),
    Rule(
        "self.offload != 'Parameters' || self.strategy in ['FSDP', 'ZeRO3']",
        "weights are offloaded by FSDP and ZeRO3 only: write one of them as strategy, or offload: None",
        ".offload",
    ),
    *(
        Rule(
            f"self.tensorParallelSize == 1 || {allowed}",
            f"{why}: {change}, or leave tensorParallelSize out",
            ".tensorParallelSize",
        )
        for allowed, why, change in (
            (
                "(has(self.processesPerNode) ? self.processesPerNode : "
                "self.resources.gpus > 0 ? self.resources.gpus : 1) % self.tensorParallelSize == 0",
                "a worker pod has no whole number of tensor groups",
                "write processesPerNode (or resources.gpus) as a multiple of it",
            ),
            (
                "self.strategy == 'FSDP'",
                "only FSDP parts the layers of a tensor group",
                "write strategy: FSDP",
            ),
            (
                "self.method == 'Full' || (self.method == 'LoRA' && self.lora.variant != 'DoRA')",
                "of the adapters only LoRA's are parted with their layer, and not DoRA's lengths",
                "write method: Full, or method: LoRA without DoRA",
            ),
            (
                "self.offload == 'None'",
                "a tensor group keeps its weights on the GPUs",
                "write offload: None",
            ),
            (
                "(!has(self.dropout) || double(self.dropout) == 0.0) && !has(self.neftuneAlpha) && "
                "(self.method != 'LoRA' || double(self.lora.dropout) == 0.0)",
                "each process of a tensor group would draw another noise",
                'write dropout: "0" and lora.dropout: "0", and no neftuneAlpha',
            ),
        )
    ),
)
