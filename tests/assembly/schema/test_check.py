"""A configuration is refused before anything starts, in one line; what a user adds for a purpose is not."""

from __future__ import annotations

import os

import pytest
from omegaconf import DictConfig

from kemr_lightning.assembly.schema.check import check_config
from kemr_lightning.core.errors import SettingError, UserError
from tests.conftest import compose


def composed(*overrides: str) -> DictConfig:
    return compose("paths.run_dir=x", "data.root=x", *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("+width=3", "model.backbone.out_channels=${width}"),
        ("+count.least=0.5", "task.function=somewhere.else.count"),
        ("callbacks.ema._target_=collections.OrderedDict", "+callbacks.ema.whatever=1"),
        ("+callbacks.mine._target_=collections.OrderedDict",),
        ("trainer.max_steps=1e3", "data.cache_mb=2.0"),
        ("trainer.devices=2", "trainer.accelerator=cpu"),
        ("trainer.max_steps=-1", "trainer.max_time='00:01:00:00'"),
        ("~callbacks.figures", "callbacks.ema=null", "+logger.wandb.tags=[a,b]"),
    ],
)
def test_good_configurations_pass(overrides: tuple[str, ...]) -> None:
    config = composed(*overrides)
    check_config(config)
    assert type(config.trainer.max_steps) is int


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("+foo=1",), r"^foo=1 is not a setting"),
        (("+sed=1",), r"^sed=1 is not a setting\. Did you mean seed"),
        (("seed=-1",), r"^seed=-1 is not possible\. Give a whole number from 0 to 4294967295$"),
        (("seed=-1", "data.batch_size=0"), r"^seed=-1 .* Also wrong: data\.batch_size$"),
        (("callbacks.ema._target_=no.such.Thing",), r"^callbacks\.ema\._target_=no\.such\.Thing cannot be found"),
        (("data._target_=kemr_lightning.data.datamodle.X",), r"^data\._target_=kemr.* cannot be found"),
        (("trainer.max_steps=-1",), r"^trainer\.max_epochs=-1 lets a training run for ever"),
    ],
)
def test_bad_ones_do_not(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        check_config(composed(*overrides))


def test_more_devices_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    check_config(composed("trainer.devices=4", "trainer.accelerator=cpu"))
    with pytest.raises(SettingError, match=r"^trainer\.devices=99 is more than this machine has \(4 processor cores\)"):
        check_config(composed("trainer.devices=99", "trainer.accelerator=cpu"))


def test_credentials_are_refused_without_showing_them() -> None:
    with pytest.raises(UserError) as caught:
        check_config(composed("+logger.wandb.settings.api_key=hush12345"))
    assert "logger.wandb.settings.api_key" in str(caught.value)
    assert "hush" not in str(caught.value)
