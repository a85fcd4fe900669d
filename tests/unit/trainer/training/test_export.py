"""A model out of any checkpoint: loaded by transformers alone, and the training goes on as if nothing had been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oikyo.api import workspace as layout
from oikyo.api.stages import EXIT_DONE, EXIT_REFUSED
from oikyo_trainer.training.checkpoint import in_use, verify
from oikyo_trainer.training.export import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SETTINGS: dict[str, Any] = {
    "method": "LoRA",
    "max_steps": 20,
    "learning_rate": "3e-3",
    "checkpoints": {"every_steps": 5, "keep": 3},
}


@pytest.fixture
def trained(lab: Any, tmp_path: Path) -> tuple[Any, list[str]]:
    """A finished training, and the options that name it."""
    spec = lab.tokenised(lab.spec("TextGeneration", **SETTINGS))
    lab.train(spec)
    path = tmp_path / "spec.json"
    path.write_text(spec.json_line())
    return lab, ["--spec", str(path), "--workspace", str(lab.workspace)]


def test_a_checkpoint_becomes_a_model_an_adapter_or_a_sentence(
    trained: tuple[Any, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lab, options = trained
    model, adapter = tmp_path / "out" / "model", tmp_path / "adapter"
    assert main([*options, str(model)]) == EXIT_DONE
    assert "checkpoint-20" in capsys.readouterr().out
    loaded = AutoModelForCausalLM.from_pretrained(model)
    assert AutoTokenizer.from_pretrained(model)("red sun")["input_ids"]
    assert torch.isfinite(loaded(torch.tensor([[1, 5, 6]])).logits).all()
    assert "20 optimizer steps" in (model / "README.md").read_text()
    assert not [path for path in model.rglob("*") if path.suffix in (".bin", ".pt", ".pth")]

    assert main([*options, "--checkpoint=15", "--adapter", str(adapter)]) == EXIT_DONE
    folder = lab.workspace / layout.checkpoints("run-1") / "checkpoint-15"
    exported, saved = (load_file(p / "adapter_model.safetensors") for p in (adapter, folder))
    assert exported.keys() == saved.keys()
    assert all(torch.equal(exported[name], saved[name]) for name in saved)
    assert verify(folder, run="run-1").step == 15
    capsys.readouterr()

    assert main([*options, "--checkpoint=7", str(tmp_path / "none")]) == EXIT_REFUSED
    told = capsys.readouterr().err
    assert "checkpoint-7 cannot be exported" in told
    assert "Name one of these steps: 10, 15, 20." in told
    assert main([*options, str(adapter)]) == EXIT_REFUSED
    assert "is there already" in capsys.readouterr().err
    (folder / "adapter_model.safetensors").write_bytes(b"x")
    assert main([*options, "--checkpoint=15", str(tmp_path / "none")]) == EXIT_REFUSED
    assert "has 1 bytes" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()

    held: list[bool] = []

    def proven(path: Path, *, run: str) -> Any:
        held.append(in_use(path))
        return verify(path, run=run)

    monkeypatch.setattr("oikyo_trainer.training.checkpoint.verify", proven)
    newest = folder.with_name("checkpoint-20")
    (newest / "adapter_model.safetensors").write_bytes(b"x")
    assert main([*options, "--adapter", str(tmp_path / "older")]) == EXIT_DONE
    assert "checkpoint-10 of run-1" in capsys.readouterr().out
    assert held == [True, True, True], "retention may remove what is not held while it is read"
    assert "skipped checkpoint-20: adapter_model.safetensors has 1 bytes" in caplog.text
