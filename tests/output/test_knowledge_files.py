"""Knowledge as files of a run, and as an artifact that says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kemr_lightning.output.knowledge_files import log_knowledge, write_knowledge
from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.refinement.knowledge import Knowledge, from_params

PARAMS = CRFParams(sigma_alpha=2, sigma_beta=9, sigma_gamma=3, w1=3, w2=0, iterations=2)


class Run:
    """Keeps what is logged to it."""

    def __init__(self) -> None:
        self.artifacts: list[Any] = []

    def log_artifact(self, artifact: Any) -> None:
        self.artifacts.append(artifact)


def test_a_file_to_load_and_one_to_read(tmp_path: Path) -> None:
    knowledge = from_params(PARAMS, {"found_by": "a test"})
    files = write_knowledge(knowledge, tmp_path / "run")
    assert [file.name for file in files] == ["knowledge.safetensors", "knowledge.txt"]
    loaded = Knowledge.load(files[0])
    assert (loaded.actions[0].params, loaded.origin) == (PARAMS, {"found_by": "a test"})
    assert files[1].read_text() == knowledge.describe() + "\n"


def test_the_artifact_describes_actions_and_origin(tmp_path: Path) -> None:
    knowledge, run = from_params(PARAMS, {"found_by": "a test"}), Run()
    log_knowledge(run, knowledge, write_knowledge(knowledge, tmp_path))
    (artifact,) = run.artifacts
    assert (artifact.name, artifact.type, artifact.description) == ("knowledge", "knowledge", knowledge.describe())
    assert set(artifact.manifest.entries) == {"knowledge.safetensors", "knowledge.txt"}
    (action,) = knowledge.actions
    assert artifact.metadata["actions"][action.name]["sigma_beta"] == 9
    assert artifact.metadata["origin"] == {"found_by": "a test"}
