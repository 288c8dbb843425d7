"""``hydra/launcher=submitit_slurm``: the plug-in's launcher with this project's values, or one line on what is missing.

The values are in ``conf/hydra/launcher/slurm.yaml``. If that file had the plug-in's own name, Hydra would warn in every
run that it is checked against a schema of the same name, and its next version would drop the plug-in's values. So the
name is replaced before Hydra sees it; `slurm` means the same.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence

from kemr_lightning.core.errors import UserError

GROUP = "hydra/launcher"
DOCUMENTED, OURS = "submitit_slurm", "slurm"
PLUGIN = "hydra_submitit_launcher"
MULTIRUN = ("-m", "--multirun", "hydra.mode=MULTIRUN")


def with_our_launcher(arguments: Sequence[str]) -> list[str]:
    """The command line as Hydra has to see it.

    Args:
        arguments: The words after the program's name.

    Returns:
        The same words, with the Slurm launcher under the name of its configuration.

    Raises:
        UserError: The plug-in is not installed, or a sweep is started where there is no Slurm.
    """
    names = {f"{GROUP}={name}" for name in (DOCUMENTED, OURS)}
    if not names & set(arguments):
        return list(arguments)
    given = f"{GROUP}={DOCUMENTED}"
    if not _installed():
        raise UserError(f"{given} needs a plug-in that is not installed. Install it: pip install -e '.[slurm]'")
    if set(MULTIRUN) & set(arguments) and shutil.which("srun") is None:
        raise UserError(
            f"{given}: there is no Slurm on this machine (srun is not found). Start the sweep on a login node of the "
            "cluster, or leave the launcher out to run the jobs here"
        )
    return [f"{GROUP}={OURS}" if word in names else word for word in arguments]


def _installed() -> bool:
    try:
        return importlib.util.find_spec(f"hydra_plugins.{PLUGIN}") is not None
    except ModuleNotFoundError:  # Hydra has no plug-in at all
        return False
