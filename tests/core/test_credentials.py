"""Credentials are refused wherever they stand, and never repeated."""

from __future__ import annotations

from typing import Any

import pytest

from kemr_lightning.core.credentials import refuse_credentials, refuse_credentials_in
from kemr_lightning.core.errors import UserError

HUSH = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    "settings",
    [
        {"logger": {"wandb": {"api_key": "hush-hush"}}},
        {"logger": {"wandb": {"settings": {"api_key": "hush-hush"}}}},
        {"logger": {"wandb": {"notes": f"key {HUSH}"}}},
        {"mine": [{"password": "hush-hush"}]},
        {"note": "WANDB is hush-hush"},
    ],
)
def test_settings_with_credentials(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "hush-hush")
    with pytest.raises(UserError, match="wandb login") as caught:
        refuse_credentials(settings)
    assert "hush" not in str(caught.value)
    assert HUSH not in str(caught.value)


def test_settings_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "")
    refuse_credentials({"logger": {"wandb": {"api_key": None, "name": "a"}}, "ckpt": f"{HUSH}/best.ckpt", "seed": 3})


@pytest.mark.parametrize(
    "word",
    [
        "+logger.wandb.api_key=hush-hush",
        "++logger.wandb.settings.api_key=hush-hush",
        "+logger.wandb={api_key: hush-hush}",
        "hydra.job.env_set.WANDB_API_KEY=hush-hush",
        "+hydra.job.env_set={WANDB_API_KEY: hush-hush}",
        "+logger.wandb.notes=${oc.env:WANDB_API_KEY}",
        f"+logger.wandb.key={HUSH}",
        "+mine.password=hush-hush",
        "WANDB_API_KEY=hush-hush",
        "name=x-hush-hush",
    ],
)
def test_words_with_credentials(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "hush-hush")
    with pytest.raises(UserError) as caught:
        refuse_credentials_in(["experiment=kemr_tiny", word])
    assert "hush" not in str(caught.value)
    assert HUSH not in str(caught.value)


def test_words_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    refuse_credentials_in(["data.root=my_secret_folder", "+logger.wandb.api_key=null", "-m", f"ckpt={HUSH}.ckpt"])
