"""Asks PyPI's advisories about every locked package; `make audit`.

Fails on a known vulnerability, unless ``.ci/advisories.txt`` lists it with a reason. Says clearly when it could not ask
(no network, or an index without advisories), which does not fail.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LOCK = HERE.parent / "requirements.lock"
ACCEPTED = HERE / "advisories.txt"
SECONDS = 300


def accepted(file: Path = ACCEPTED) -> dict[str, str]:
    """The advisories that do not fail the audit, with their reasons: lines ``ID reason``."""
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    found = dict(line.partition(" ")[::2] for line in lines if line and not line.startswith("#"))
    for name, reason in found.items():
        if not reason.strip():
            sys.exit(f"error: {file} lists {name} without a reason")
    return found


def asked(program: str) -> tuple[list[dict[str, Any]], str]:
    """What pip-audit says about each package, and why it said nothing if it did not."""
    words = ["-r", str(LOCK), "--require-hashes", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
    try:
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False, timeout=SECONDS)
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return [], f"no answer in {SECONDS} seconds"
    except (ValueError, KeyError, OSError) as error:
        lines = done.stderr.strip().splitlines() if isinstance(error, ValueError | KeyError) else [str(error)]
        return [], lines[-1][:200] if lines else "no output"
    return packages, ""


def main(program: str) -> int:
    """Report, and return the exit status: 1 on a vulnerability that is not accepted, else 0."""
    packages, reason = asked(program)
    skipped = [each for each in packages if "skip_reason" in each]
    if packages and len(skipped) == len(packages):
        reason = "the index that is used here has no advisories"
    if reason:
        print(f"audit: NOT RUN ({reason}). Nothing is known about vulnerabilities of the locked packages")
        return 0
    known = accepted()
    bad = 0
    for each in packages:
        for found in each.get("vulns", ()):
            names = {found["id"], *found.get("aliases", ())}
            why = next((known[name] for name in names if name in known), None)
            fixed = ", ".join(found.get("fix_versions", ())) or "no version"
            bad += why is None
            said = f"accepted: {why}" if why else f"fixed in {fixed}"
            print(f"audit: {each['name']} {each['version']}: {found['id']} ({said})")
    left = f", {len(skipped)} could not be looked up" if skipped else ""
    print(f"audit: {len(packages) - len(skipped)} packages, {bad} vulnerabilities that are not accepted{left}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
