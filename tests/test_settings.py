"""Settings by name: every one can be read from words and changed alone; what is no value of a type is refused."""

import math
from typing import get_args

import pytest

from reid_jax import settings, workdir
from reid_jax.config import Config, DatasetName, PresetName
from reid_jax.presets import preset

PRESETS = [preset(name, dataset) for name in get_args(PresetName) for dataset in get_args(DatasetName)]


def test_every_setting_of_every_preset_is_read_back_from_its_words():
    assert set(settings.setting_types()) == set(workdir.flatten(Config()))
    for config in PRESETS:
        for name, value in workdir.flatten(config).items():
            found = settings.parse_value(name, settings.in_words(value))
            assert found == value and type(found) is type(value), name


def test_a_change_changes_the_named_settings_and_no_other():
    base = preset("default", "mars")
    changed = settings.change(base, {"seed": 3, "backbone": "rcn", "frames": 7, "penalty": 0.5})
    before, after = workdir.flatten(base), workdir.flatten(changed)
    assert {name: value for name, value in after.items() if before[name] != value} == {
        "seed": 3, "backbone": "rcn", "frames": 7, "penalty": 0.5,
    }  # fmt: skip
    assert settings.change(base, {}) == base
    with pytest.raises(settings.SettingError, match="no settings flavour"):
        settings.change(base, {"frames": 7, "flavour": 1})


def test_settings_that_only_fit_together_are_changed_at_once():
    together = {"channels": (4, 5), "input_kernels": (1, 3), "state_kernels": (3, 1)}
    changed = settings.change(preset("paper", "mars"), together)
    assert {name: workdir.flatten(changed)[name] for name in together} == together
    with pytest.raises(ValueError, match="channels, input_kernels and state_kernels differ in length"):
        settings.change(preset("paper", "mars"), {"channels": (4, 5)})


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("frames", "2.5", "frames=2.5: the values of frames are whole numbers"),
        ("penalty", "much", "penalty=much: the values of penalty are numbers"),
        ("penalty", "nan", "values of penalty are numbers"),
        ("mirror", "maybe", "values of mirror are one of true, false"),
        ("distance", "manhattan", "values of distance are one of euclidean, cosine, similarity"),
        ("prid_persons", "150", "one of 178, 200"),
        ("channels", "64+x", "channels=64\\+x: the values of channels are whole numbers joined by \\+"),
        ("endpoint", "", "values of endpoint are words"),
        ("input_kernel", "3", "'input_kernel' is not a setting; is it input_kernels"),
        ("qqqqqq", "3", "'qqqqqq' is not a setting$"),
    ],
)
def test_what_is_no_value_is_refused_by_name_and_allowed_values(name, text, words):
    with pytest.raises(settings.SettingError, match=words):
        settings.parse_value(name, text)


def test_values_have_the_type_of_their_field():
    assert settings.parse_value("penalty", "1") == 1.0 and isinstance(settings.parse_value("penalty", "1"), float)
    assert settings.parse_value("channels", "64+128") == (64, 128) and settings.parse_value("channels", "64") == (64,)
    assert settings.parse_value("mirror", "false") is False and settings.parse_value("manual_dir", "none") is None
    assert math.isclose(settings.parse_value("learning_rate", "3e-4"), 3e-4)
