"""What the recipes run in: a folder of their own, and the files that a person would have."""

from __future__ import annotations

import pytest

from mullama_lab import hub

FROM_THE_HUB = "models--bartowski--SmolLM2-135M-Instruct-GGUF"
FILE = "SmolLM2-135M-Instruct-Q4_K_M.gguf"
COMMIT = "0" * 40


@pytest.fixture(autouse=True)
def a_persons_folder(request, tmp_path, monkeypatch):
    """An empty folder for files and saved chains; for `models.rst`, a model and a hub's cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MULLAMA_LAB_CONFIG", str(tmp_path / "config"))
    if request.path.name == "models.rst":
        model = hub.fetch(hub.DEFAULT_MODEL)
        (tmp_path / "my-model.gguf").symlink_to(model)
        _downloaded_before(tmp_path / "hub" / FROM_THE_HUB, model)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def _downloaded_before(repository, model):
    """Lay a file where huggingface_hub would have put it after its download."""
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / FILE).symlink_to(model)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
