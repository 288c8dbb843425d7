"""The list of dependencies, the lock file and the audit agree."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = [Requirement(line) for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]]
ENTRY = re.compile(r"^([\w.-]+)==(\S+).*\\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", re.MULTILINE)


def locked() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, version, _ in ENTRY.findall((ROOT / "requirements.lock").read_text()):
        found.setdefault(canonicalize_name(name), []).append(version)
    return found


@pytest.mark.parametrize("needed", NEEDED, ids=str)
def test_every_dependency_is_locked_within_its_range(needed: Requirement) -> None:
    versions = locked()[canonicalize_name(needed.name)]
    assert all(needed.specifier.contains(version) for version in versions), "run `make lock`"


def test_everything_that_is_locked_has_a_hash() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert len(ENTRY.findall(text)) == len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)) > 80


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [("lightning", "2.6.3", "2.6.4"), ("torch", "2.9.1", "2.10.0"), ("hydra-core", "1.3.2", "1.3.8")],
)
def test_versions_with_known_faults_are_left_out(name: str, bad: str, good: str) -> None:
    (needed,) = [each for each in NEEDED if each.name == name]
    assert Version(bad) not in needed.specifier
    assert Version(good) in needed.specifier


def audited(tmp_path: Path, answer: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the audit with a stand-in for pip-audit."""
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\nexit {code}\n")
    program.chmod(0o755)
    command = [sys.executable, str(ROOT / ".ci" / "audit.py"), str(program)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["3"]}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("answer", "code", "status", "said"),
    [
        (json.dumps({"dependencies": [CLEAN, CLEAN]}), 0, 0, "2 packages, 0 vulnerabilities"),
        (json.dumps({"dependencies": [CLEAN, BAD]}), 1, 1, "b 2: PYSEC-1 (fixed in 3)"),
        (json.dumps({"dependencies": [CLEAN, SKIPPED]}), 0, 0, "1 could not be looked up"),
        (json.dumps({"dependencies": [SKIPPED]}), 0, 0, "NOT RUN"),
        ("ConnectionError", 1, 0, "NOT RUN"),
    ],
)
def test_the_audit_says_what_it_knows(tmp_path: Path, answer: str, code: int, status: int, said: str) -> None:
    done = audited(tmp_path, answer, code)
    assert (done.returncode, said in done.stdout) == (status, True), done.stdout + done.stderr
