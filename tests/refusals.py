"""What the door refuses and what it says: one table for admission and for a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from builders import a_manifest
from oikyo.admission import schema_of

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One bad manifest."""

    id: str
    manifest: Manifest
    path: str
    """The field that the refusal names."""
    says: str
    """Part of the sentence; for a rule, of the rule's message."""
    old: Manifest | None = None
    """What stood there before, for a row about an update."""
    rule: bool = True
    """Whether a CEL rule refuses it; else the schema does."""


def _job(what: str, path: str, says: str, *, name: str = "support-intents", **spec: Any) -> Row:
    return Row(what, a_manifest(name=name, **spec), path, says)


def _schema(what: str, path: str, says: str, **spec: Any) -> Row:
    return Row(what, a_manifest(**spec), path, says, rule=False)


def _other(what: str, kind: str, path: str, says: str, **keywords: Any) -> Row:
    return Row(what, a_manifest(kind, **keywords), path, says)


def _changed(what: str, path: str, says: str, **spec: Any) -> Row:
    return Row(what, a_manifest(**spec), path, says, old=a_manifest())


def _base(uri: str) -> Manifest:
    return {"model": {"base": uri}}


def _data(*uris: str, **more: Any) -> Manifest:
    return {
        "data": {"sources": [{"uri": uri} for uri in uris] or [{"uri": "pvc://a/b.csv"}], **more}
    }


_TENSOR = {"method": "Full", "strategy": "FSDP", "processesPerNode": 2, "tensorParallelSize": 2}
_GENERAL = {"sources": [{"uri": "pvc://a/general.jsonl"}]}


def _gates(*gates: Manifest) -> Manifest:
    return {"evaluation": {"gates": list(gates)}}


_MORE_DATA = {"sources": [{"uri": "pvc://datasets/more.jsonl"}]}

RULES = (
    _job("a name longer than a label allows", "metadata.name", "at most 52", name="a" * 53),
    _job("a name with a dot", "metadata.name", "may not contain '.'", name="a.b"),
    _job("a name that begins with a digit", "metadata.name", "begin with a letter", name="7b"),
    _job("a model that begins with a digit", "spec.model.name", "a letter first",
         model={"base": "pvc://a/b", "name": "7b"}),
    _job("a secret in capitals", "spec.model.secretName", "lower case",
         model={"base": "pvc://a/b", "secretName": "Token"}),
    _job("a base of an unknown scheme", "spec.model.base", "hf://org/name", **_base("ftp://a/b")),
    _job("a base of many folders", "spec.model.base", "one folder", **_base("s3://models/*")),
    _job("a base that is data", "spec.model.base", "hf://org/name", **_base("configmap://a/b")),
    _job("a base with a blank", "spec.model.base", "only letters", **_base("hf://a b")),
    _job("a base that climbs", "spec.model.base", "'..'", **_base("pvc://models/../secret")),
    _job("a base without a claim", "spec.model.base", "name of a claim", **_base("pvc:///models")),
    _job("a version without a number", "spec.model.base", "/3", **_base("version://intents")),
    _job("a model name in capitals", "spec.model.name", "lower case",
         model={"base": "hf://a/b", "name": "Intents"}),
    _job("no data", "spec.data.sources", "at least one file", data={"sources": []}),
    _job("a column named twice", "spec.data.sliceBy", "once", **_data(sliceBy=["a", "a"])),
    _job("more of a share than all", "spec.data.clean.boilerplate", "below 1",
         **_data(clean={"boilerplate": "1.5"})),
    _job("no kind of personal data", "spec.data.clean.personalData.kinds", "[Email]",
         **_data(clean={"personalData": {"kinds": []}})),
    _job("a fence within the middle", "spec.data.clean.quality.lengthFence", "from 1",
         **_data(clean={"quality": {"lengthFence": "0.5"}})),
    _job("fewer words than the fewest", "spec.data.clean.quality.maxWords", "at least minWords",
         **_data(clean={"quality": {"minWords": 9, "maxWords": 3}})),
    _job("a similarity above 1", "spec.data.duplicates.similarity", "0.5 to 0.99",
         **_data(duplicates={"similarity": "80"})),
    _job("data of an unknown scheme", "spec.data.sources[0].uri", "configmap://", **_data("ftp://a/b")),
    _job("a pattern on a claim", "spec.data.sources[0].uri", "in a bucket alone", **_data("pvc://a/*.csv")),
    _job("a bucket without a name", "spec.data.sources[0].uri", "name of a bucket", **_data("s3:///a.csv")),
    _job("a secret for a claim", "spec.data.sources[0].secretName", "opens a bucket",
         data={"sources": [{"uri": "pvc://a/b.csv", "secretName": "reader"}]}),
    _job("data that climbs at the end", "spec.data.sources[0].uri", "'..'", **_data("pvc://a/b/..")),
    _job("a ConfigMap without a key", "spec.data.sources[0].uri", "and a key", **_data("configmap://a")),
    _job("augmenting by nothing", "spec.data.augment", "write edits, templates", **_data(augment={})),
    _job("edits that change nothing", "spec.data.augment.edits", "change nothing",
         **_data(augment={"edits": {"swap": "0.0", "delete": "0.0"}})),
    _job("a template without a place", "spec.data.augment.templates[0]", "{text}",
         **_data(augment={"templates": ["Hello there"]})),
    _job("a balance above the largest class", "spec.data.augment.balance", "at most 1",
         **_data(augment={"balance": "1.5"})),
    _job("an endpoint with a password", "spec.data.augment.endpoint.url", "secretName",
         **_data(augment={"endpoint": {"url": "http://me:secret@host/v1", "model": "m"}})),
    _job("a prompt without a place", "spec.data.augment.endpoint.prompt", "{text}",
         **_data(augment={"endpoint": {"url": "http://host/v1", "model": "m", "prompt": "Say it again"}})),
    _job("more than half held out", "spec.data.split.validation", "from 0 to 0.5",
         **_data(split={"validation": "0.51"})),
    _job("no rows for the verdict", "spec.data.split", "testSources", **_data(split={"test": "0.0"})),
    _job("a benchmark in capitals", "spec.data.contamination[0].name", "lower case",
         **_data(contamination=[{"name": "GSM8K", "uri": "pvc://a/b.jsonl"}])),
    _job("a benchmark of an unknown scheme", "spec.data.contamination[0].uri", "configmap://",
         **_data(contamination=[{"name": "gsm8k", "uri": "ftp://a/b"}])),
    _job("a weight of nothing", "spec.data.sources[0].weight", "above 0 and up to 100",
         data={"sources": [{"uri": "pvc://a/b.csv", "weight": "0.0"}]}),
    _job("a gate on folds that are not made", "spec.evaluation.gates", "crossValidation: {folds: 5}",
         **_gates({"metric": "f1_macro", "min": "0.8", "of": "CrossValidation"})),
    _job("a base that is measured on no fold", "spec.evaluation.gates[0].betterThan", "min or max",
         evaluation={"crossValidation": {"folds": 3}, "gates": [
             {"metric": "f1_macro", "betterThan": "Base", "of": "CrossValidation"}]}),
    _job("folds of a split by time", "spec.evaluation.crossValidation", "drop crossValidation",
         evaluation={"crossValidation": {"folds": 3}}, **_data(split={"timeBy": "at"})),
    _job("groups and times", "spec.data.split.timeBy", "groupBy or timeBy",
         **_data(split={"groupBy": "customer", "timeBy": "at"})),
    _job("classes and times", "spec.data.split.stratify", "one of the three",
         **_data(split={"stratify": True, "timeBy": "at"})),
    _job("stratified answers", "spec.data.split.stratify", "drop stratify", task="TextGeneration",
         **_data(split={"stratify": True})),
    _job("a micro batch above the batch", "spec.training.microBatchSize", "at most batchSize",
         training={"batchSize": 8, "microBatchSize": 16}),
    _job("a dropout of one", "spec.training.lora.dropout", "below 1",
         training={"lora": {"dropout": "1"}}),
    _job("a layer with a blank in its name", "spec.training.lora.targetModules[0]", "q_proj",
         training={"lora": {"targetModules": ["q proj"]}}),
    _job("QLoRA without a GPU", "spec.training.method", "resources.gpus",
         training={"method": "QLoRA"}),
    _job("QLoRA with a sharded base", "spec.training.strategy", "DDP or ZeRO2",
         training={"method": "QLoRA", "strategy": "ZeRO3", "resources": {"gpus": 1}}),
    _job("QLoRA under FSDP", "spec.training.strategy", "DDP or ZeRO2",
         training={"method": "QLoRA", "strategy": "FSDP", "resources": {"gpus": 1}}),
    _job("more nodes at least than at most", "spec.training.minNodes", "at most training.nodes",
         training={"nodes": 2, "minNodes": 3}, storage={"accessMode": "ReadWriteMany"}),
    _job("ZeRO with fewer nodes", "spec.training.minNodes", "strategy: FSDP",
         training={"nodes": 2, "minNodes": 1, "strategy": "ZeRO2"},
         storage={"accessMode": "ReadWriteMany"}),
    _job("a queue in capitals", "spec.scheduling.queueName", "lower case",
         scheduling={"queueName": "Team"}),
    _job("a scheduler in capitals", "spec.scheduling.schedulerName", "lower case",
         scheduling={"schedulerName": "Volcano"}),
    _job("a toleration of a value without a key", "spec.scheduling.tolerations[0]", "a key",
         scheduling={"tolerations": [{"value": "true"}]}),
    _job("a toleration of any value that names one", "spec.scheduling.tolerations[0]", "Exists",
         scheduling={"tolerations": [{"key": "gpu", "operator": "Exists", "value": "true"}]}),
    _job("an offload without a GPU", "spec.training.offload", "resources.gpus",
         training={"strategy": "ZeRO2", "offload": "Optimizer"}),
    _job("FSDP that offloads the optimizer alone", "spec.training.offload", "offload: Parameters",
         training={"strategy": "FSDP", "offload": "Optimizer", "resources": {"gpus": 1}}),
    _job("weights that ZeRO2 cannot offload", "spec.training.offload", "FSDP and ZeRO3",
         training={"strategy": "ZeRO2", "offload": "Parameters", "resources": {"gpus": 1}}),
    _job("a tensor group over several pods", "spec.training.tensorParallelSize", "as a multiple of it",
         task="TextGeneration", training={**_TENSOR, "processesPerNode": 1}),
    _job("a tensor group that parts the GPUs of a pod", "spec.training.tensorParallelSize",
         "as a multiple of it", task="TextGeneration",
         training={"method": "Full", "strategy": "FSDP", "tensorParallelSize": 4, "resources": {"gpus": 6}}),
    _job("a tensor group under DDP", "spec.training.tensorParallelSize", "strategy: FSDP",
         task="TextGeneration", training={**_TENSOR, "strategy": "DDP"}),
    _job("LoRA in a tensor group", "spec.training.tensorParallelSize", "method: Full",
         task="TextGeneration", training={**_TENSOR, "method": "LoRA"}),
    _job("a tensor group that offloads", "spec.training.tensorParallelSize", "offload: None",
         task="TextGeneration", training={**_TENSOR, "offload": "Parameters", "resources": {"gpus": 2}}),
    _job("dropout in a tensor group", "spec.training.tensorParallelSize", 'dropout: "0"',
         task="TextGeneration", training={**_TENSOR, "dropout": "0.1"}),
    _job("noise in a tensor group", "spec.training.tensorParallelSize", "no neftuneAlpha",
         task="TextGeneration", training={**_TENSOR, "neftuneAlpha": "5"}),
    _job("classes in a tensor group", "spec.training.tensorParallelSize", "task: TextGeneration",
         training=_TENSOR),
    _job("a gate of answers for preferences", "spec.evaluation", "preference_margin",
         task="TextGeneration", training={"objective": "KTO"},
         **_gates({"metric": "preference_accuracy", "min": "0.5"})),
    _job("a preference of nothing", "spec.training.preference.beta", "above 0",
         training={"preference": {"beta": "0"}}),
    _job("several labels of generated text", "spec.data.fields.labelSeparator", "TextClassification",
         task="TextGeneration", **_data("pvc://a/b.csv", fields={"labelSeparator": ","})),
    _job("micro F1 of single labels", "spec.evaluation", "labelSeparator",
         **_gates({"metric": "f1_micro", "min": "0.5"})),
    _job("PromptTuning merged", "spec.training.merge", "write training.merge: false",
         training={"method": "PromptTuning"}),
    _job("PromptTuning under ZeRO3", "spec.training.strategy", "DDP or ZeRO2",
         training={"method": "PromptTuning", "merge": False, "strategy": "ZeRO3"}),
    _job("8-bit moments without a GPU", "spec.training.optimizer", "resources.gpus",
         training={"optimizer": "AdamW8bit"}),
    _job("Adafactor under ZeRO", "spec.training.optimizer", "strategy: DDP",
         training={"optimizer": "Adafactor", "strategy": "ZeRO2"}),
    _job("a preference metric without preferences", "spec.training.selectBy", "selectBy: loss",
         task="TextGeneration", training={"selectBy": "preference_margin"}),
    _job("pairs of votes", "spec.training.selectBy", "preference_margin or loss",
         task="TextGeneration", training={"objective": "KTO", "selectBy": "preference_accuracy"}),
    _job("classes in generated text", "spec.training.selectBy", "TextClassification job",
         task="TextGeneration", training={"selectBy": "f1_macro"}),
    _job("selection without validation rows", "spec.training.selectBy", "split.validation",
         training={"selectBy": "f1_macro"},
         **_data("pvc://a/b.csv", split={"validation": "0"})),
    _job("preferences with smoothed labels", "spec.training.labelSmoothing", "objective: Supervised",
         task="TextGeneration", training={"objective": "DPO", "labelSmoothing": "0.1"}),
    _job("preferences that learn all tokens", "spec.training.lossOn", "objective: Supervised",
         task="TextGeneration", training={"objective": "DPO", "lossOn": "All"}),
    _job("a gate of classes for numbers", "spec.evaluation", "r2, rmse, mae", task="TextRegression",
         **_gates({"metric": "f1_macro", "min": "0.5"})),
    _job("a gate of numbers for classes", "spec.evaluation", "accuracy, f1_macro",
         **_gates({"metric": "r2", "min": "0.5"})),
    _job("numbers with smoothed labels", "spec.training.labelSmoothing", "leave training.labelSmoothing out",
         task="TextRegression", training={"labelSmoothing": "0.1"}),
    _job("numbers that fill classes up", "spec.data.augment.balance", "write perRow",
         task="TextRegression", **_data(augment={"balance": "0.5"})),
    _job("the error of a number among classes", "spec.training.selectBy", "TextRegression job",
         training={"selectBy": "mae"}),
    _job("the F1 of a number", "spec.training.selectBy", "TextClassification job",
         task="TextRegression", training={"selectBy": "f1_macro"}),
    _job("numbers served by vLLM", "spec.deployment.runtime", "write deployment.runtime: Oikyo",
         task="TextRegression", deployment={"runtime": "VLLM"}),
    _job("stratified numbers", "spec.data.split.stratify", "drop stratify", task="TextRegression",
         **_data(split={"stratify": True})),
    _job("numbers with several labels", "spec.data.fields.labelSeparator", "TextClassification",
         task="TextRegression", **_data("pvc://a/b.csv", fields={"labelSeparator": ","})),
    _job("preferences between numbers", "spec.training.objective", "TextGeneration",
         task="TextRegression", training={"objective": "DPO"}),
    _job("examples for numbers", "spec.data.fewShot", "for models that write answers",
         task="TextRegression", **_data(fewShot={"examples": 4})),
    _job("examples for a classifier", "spec.data.fewShot", "for models that write answers",
         **_data(fewShot={"examples": 4})),
    _job("general rows for a classifier", "spec.training.general", "nothing general to keep",
         training={"general": _GENERAL}),
    _job("general rows for preferences", "spec.training.general", "by preference.beta",
         task="TextGeneration", training={"objective": "DPO", "general": _GENERAL}),
    _job("general rows for learned vectors", "spec.training.general", "nothing is forgotten",
         task="TextGeneration", training={"method": "PromptTuning", "merge": False, "general": _GENERAL}),
    _job("an adapter alone between two weights", "spec.training.general.interpolation", "whole weights",
         task="TextGeneration", training={"merge": False, "general": {**_GENERAL, "interpolation": "Auto"}}),
    _job("general rows without validation", "spec.training.general", "split.validation above 0",
         task="TextGeneration", training={"general": _GENERAL}, **_data(split={"validation": "0"})),
    _job("general rows from nowhere", "spec.training.general.sources", "at least one file",
         task="TextGeneration", training={"general": {"sources": []}}),
    _job("more general rows than rows to learn", "spec.training.general.replay", "0.5",
         task="TextGeneration", training={"general": {**_GENERAL, "replay": "0.6"}}),
    _job("a gate against examples that are not there", "spec.evaluation.gates", "write data.fewShot",
         task="TextGeneration", **_gates({"metric": "loss", "betterThan": "FewShot"})),
    _job("a classifier that learns tokens", "spec.training.lossOn", "TextGeneration",
         training={"lossOn": "LastAnswer"}),
    _job("preferences under ZeRO3", "spec.training.strategy", "DDP or ZeRO2",
         task="TextGeneration", training={"objective": "DPO", "strategy": "ZeRO3"}),
    _job("preferences under FSDP", "spec.training.strategy", "DDP or ZeRO2",
         task="TextGeneration", training={"objective": "DPO", "strategy": "FSDP"}),
    _job("preferences of a classifier", "spec.training.objective", "TextGeneration",
         training={"objective": "DPO"}),
    _job("an adapter for a server of whole models", "spec.training.merge", "merge: true",
         training={"merge": False}, deployment={"runtime": "VLLM"}),
    _job("an adapter by DoRA for VLLM", "spec.training.merge", "merge: true",
         task="TextGeneration", deployment={"runtime": "VLLM"},
         training={"merge": False, "lora": {"variant": "DoRA"}}),
    _job("a latency without a limit", "spec.deployment.latency", "write firstTokenMilliseconds",
         deployment={"latency": {"promptTokens": 64}}),
    _job("a classifier that writes tokens", "spec.deployment.latency", "answerMilliseconds for",
         deployment={"latency": {"tokenMilliseconds": 50}}),
    _job("an answer of tokens at once", "spec.deployment.latency", "for TextGeneration",
         task="TextGeneration", deployment={"latency": {"answerMilliseconds": 50}}),
    _job("the latency of another server", "spec.deployment.latency", "runtime: Oikyo",
         deployment={"latency": {"answerMilliseconds": 50}, "runtime": "VLLM"}),
    _job("a GPU that is not asked for", "spec.deployment.latency.gpuProduct", "gpus: 1",
         deployment={"latency": {"answerMilliseconds": 50, "gpuProduct": "Tesla-T4"}}),
    _job("a learning rate in letters", "spec.training.learningRate", "Auto",
         training={"learningRate": "abc"}),
    _job("a learning rate of nothing", "spec.training.learningRate", "above 0",
         training={"learningRate": "0.0"}),
    _job("a learning rate above one", "spec.training.learningRate", "at most 1",
         training={"learningRate": "1e1"}),
    _job("a negative weight decay", "spec.training.weightDecay", "at least 0",
         training={"weightDecay": "-0.1"}),
    _job("a negative quantity", "spec.training.resources.cpu", "quantity",
         training={"resources": {"cpu": -1}}),
    _job("a quantity with a wrong unit", "spec.storage.size", "16Gi", storage={"size": "20GB"}),
    _job("a gate with two conditions", "spec.evaluation.gates[0]", "exactly one",
         **_gates({"metric": "accuracy", "min": "0.8", "betterThan": "Base"})),
    _job("a gate without a condition", "spec.evaluation.gates[0]", "exactly one",
         **_gates({"metric": "accuracy"})),
    _job("a generation metric for classification", "spec.evaluation", "accuracy, f1_macro, loss",
         **_gates({"metric": "bleu", "min": "0.3"})),
    _job("a classification metric for generation", "spec.evaluation", "perplexity, bleu",
         task="TextGeneration", **_gates({"metric": "f1_macro", "min": "0.3"})),
    _job("two nodes and a volume of one", "spec.storage", "ReadWriteMany", training={"nodes": 2}),
    _job("early stopping without validation", "spec.training.earlyStopping", "validation split",
         training={"earlyStopping": {}}, **_data(split={"validation": "0"})),
    _job("fewer replicas at most than at least", "spec.deployment.replicas", "at most replicas.max",
         deployment={"replicas": {"min": 2}}),
    _job("deleting a claim of somebody else", "spec.storage.retentionPolicy", "drop claimName",
         storage={"claimName": "models", "retentionPolicy": "Delete"}),
    _changed("another base", "spec.model", "cannot change", model={"base": "hf://a/b"}),
    _changed("another task", "spec.task", "cannot change", task="TextGeneration"),
    _changed("more data", "spec.data", "cannot change", data=_MORE_DATA),
    _changed("more epochs", "spec.training", "cannot change", training={"epochs": 9}),
    _changed("a lower gate", "spec.evaluation", "cannot change",
             **_gates({"metric": "accuracy", "min": "0.1"})),
    Row("a changed record", a_manifest("ModelVersion", verdict="Rejected"), "spec", "never changes",
        old=a_manifest("ModelVersion")),
    _other("a record of a model in capitals", "ModelVersion", "spec.model", "lower case", model="A"),
    _other("a date in words", "ModelVersion", "spec.created", "2026-", created="today"),
    _other("a long name", "ModelEndpoint", "metadata.name", "at most 52", name="a" * 53),
    _other("a dotted name", "ModelEndpoint", "metadata.name", "may not contain '.'", name="a.b"),
    _other("a name from a digit", "ModelEndpoint", "metadata.name", "with a letter", name="7b"),
    _other("a model in capitals", "ModelEndpoint", "spec.model", "lower case", model="A"),
    _other("pinned to nothing", "ModelEndpoint", "spec.version", "needs a version",
           versionPolicy="Pinned"),
    _other("a version without pinning", "ModelEndpoint", "spec.version", "Pinned", version=3),
    _other("fewer at most than at least", "ModelEndpoint", "spec.replicas", "at most replicas.max",
           replicas={"min": 3, "max": 2}),
    _other("a quantity in words", "ModelEndpoint", "spec.resources.cpu", "500m",
           resources={"cpu": "four"}),
    _other("an adapter with the model's own name", "ModelEndpoint", "spec.adapters",
           "write another name", adapters=[{"name": "support-intents"}]),
    _other("an adapter in capitals", "ModelEndpoint", "spec.adapters[0].name", "lower case",
           adapters=[{"name": "Refunds"}]),
    _other("an adapter of a model in capitals", "ModelEndpoint", "spec.adapters[0].model",
           "lower case", adapters=[{"name": "refunds", "model": "R"}]),
    Row("another model", a_manifest("ModelEndpoint", model="other"), "spec.model", "cannot change",
        old=a_manifest("ModelEndpoint")),
)  # fmt: skip

SCHEMA = (
    _schema("a language by its name", "spec.data.clean.languages[0]", "en,",
            **_data(clean={"languages": ["english"]})),
    _schema("an unknown field", "spec.trianing", "did you mean training?", trianing={}),
    _schema("a field in the wrong place", "spec.training.rank", "spec.training.lora.rank",
            training={"rank": 8}),
    _schema("a field in another spelling", "spec.training.learning_rate", "learningRate?",
            training={"learning_rate": "1e-4"}),
    _schema("a misspelt metric", "spec.evaluation.gates[0].metric", "did you mean f1_macro?",
            **_gates({"metric": "f1_marco", "min": "0.8"})),
    _schema("a negative rank", "spec.training.lora.rank", "at least 1",
            training={"lora": {"rank": -4}}),
    _schema("a learning rate without quotes", "spec.training.learningRate", 'quotes: "0.0002"',
            training={"learningRate": 0.0002}),
    _schema("epochs in quotes", "spec.training.epochs", "without quotes", training={"epochs": "3"}),
    _schema("half an epoch", "spec.training.epochs", "whole number", training={"epochs": 0.5}),
    _schema("a flag for a number", "spec.training.epochs", "whole number", training={"epochs": True}),
    _schema("a word for a flag", "spec.suspend", "true or false", suspend="yes"),
    _schema("an object for a list", "spec.data.sources", "list", data={"sources": {"uri": "pvc://a/b"}}),
    _schema("a list for an object", "spec.training", "fields", training=[]),
    _schema("a check that does not exist", "spec.data.checks[0].code", "did you mean conflicting-answers?",
            **_data(checks=[{"code": "conflicting-answer"}])),
    _schema("a check twice", "spec.data.checks[1]", "once",
            **_data(checks=[{"code": "conflicting-answers"}] * 2)),
    _schema("the same file twice", "spec.data.sources[1]", "once", **_data("pvc://a/b", "pvc://a/b")),
    _schema("no task", "spec.task", "TextGeneration", task=None),
    _schema("no base", "spec.model.base", "hf://", model={}),
    _schema("a batch beyond any bound", "spec.training.batchSize", "at most 65536",
            training={"batchSize": 2**40}),
    _schema("too many gates", "spec.evaluation.gates", "at most 16",
            **_gates(*[{"metric": "loss", "max": "1"}] * 17)),
    _schema("a model name longer than a label allows", "spec.model.name", "at most 52",
            model={"base": "hf://a/b", "name": "a" * 53}),
    Row("a digest of another kind", a_manifest("ModelVersion", digest="md5:1"), "spec.digest",
        "sha256", rule=False),
    Row("a list for a date", a_manifest("ModelVersion", created=[]), "spec.created", "text",
        rule=False),
    Row("a capital name", a_manifest(name="Intents"), "metadata.name", "lower case", rule=False),
)  # fmt: skip

ACCEPTED = {
    "the smallest job": a_manifest(),
    "a whole number for a quantity": a_manifest(training={"resources": {"cpu": 4}}),
    "a null for a default": a_manifest(training={"epochs": None, "earlyStopping": None}),
    "a whole float for an integer": a_manifest(training={"epochs": 3.0}),
    "two nodes and a shared volume": a_manifest(
        training={"nodes": 2}, storage={"accessMode": "ReadWriteMany"}
    ),
    "two nodes and a named claim": a_manifest(
        training={"nodes": 2}, storage={"claimName": "shared"}
    ),
    "every scheme of data": a_manifest(
        **_data("pvc://a", "file:///a/b.csv", "hf://datasets/a/b@main/c.parquet", "configmap://a/b")
    ),
    "a name of 52 characters": a_manifest(name="a" * 52),
    "a learning rate with an exponent": a_manifest(training={"learningRate": "2e-4"}),
    "a gate of each kind": a_manifest(
        **_gates(
            {"metric": "accuracy", "min": "0.80"},
            {"metric": "loss", "max": "1.5"},
            {"metric": "f1_macro", "betterThan": "Base"},
        )
    ),
    "test files and no split": a_manifest(
        **_data("pvc://a/b", testSources=[{"uri": "pvc://a/c"}], split={"test": "0"})
    ),
    "a deployment of nothing but defaults": a_manifest(deployment={}),
    "a latency and the GPU that must meet it": a_manifest(
        deployment={
            "latency": {"answerMilliseconds": 50, "gpuProduct": "Tesla-T4"},
            "resources": {"gpus": 1},
        }
    ),
    "a continued version": a_manifest(**_base("version://support-intents/3")),
    "a record": a_manifest("ModelVersion"),
    "an adapter by LoRA for VLLM": a_manifest(
        task="TextGeneration", training={"merge": False}, deployment={"runtime": "VLLM"}
    ),
    "an endpoint": a_manifest("ModelEndpoint"),
    "an endpoint with adapters": a_manifest(
        "ModelEndpoint",
        adapters=[{"name": "refunds"}, {"name": "old", "model": "refunds", "version": 3}],
    ),
    "a pinned endpoint": a_manifest("ModelEndpoint", versionPolicy="Pinned", version=3),
}


SCALARS: dict[str, Any] = {
    "2e-4": 0.0002, "1.5": 1.5, ".5": 0.5, "1.": 1, "1e3": 1000, "-2E+05": -200000, "08": 8,
    "1:30": "1:30", "2026-01-01": "2026-01-01", "2026-01-01T00:00:00Z": "2026-01-01T00:00:00Z",
    "yes": True, "y": True, "on": True, "NO": False, "0o17": 15, "017": 15, "0x1F": 31, "0b11": 3,
    "1_000": 1000, "+1": 1, "-0": 0, "~": None, "Null": None, '"null"': "null", '"1"': "1",
    "0.1.2": "0.1.2", "1e": "1e", "=": "=", "Auto": "Auto", "hf://a/b": "hf://a/b",
}  # fmt: skip
"""YAML scalars and what kubectl makes of them."""


def every_rule(kind: str) -> Iterator[tuple[str, str]]:
    """Each rule of a kind with its message, wherever it stands outside of the status."""
    todo = [schema_of(kind)]
    while todo:
        schema = todo.pop()
        if "status" in schema.get("properties", {}):
            schema = {**schema, "properties": {"spec": schema["properties"]["spec"]}}
        for rule in schema.get("x-kubernetes-validations", ()):
            yield rule["rule"], rule["message"]
        todo += schema.get("properties", {}).values()
        todo += [schema["items"]] if "items" in schema else []
