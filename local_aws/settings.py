"""What may be set on the stand-in, by a flag when it starts or through the admin endpoint while it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


def _setting(default: Any, about: str, *, choices: tuple[str, ...] = (), least: float = 0) -> Any:
    return field(default=default, metadata={"about": about, "choices": choices, "least": least})


@dataclass(frozen=True)
class Settings:
    """Durations in seconds, rates in requests a second.

    The defaults follow AWS where it publishes a number (quotas:
    https://docs.aws.amazon.com/general/latest/gr/rekognition.html); a model takes "10-20 minutes" to stop and start
    again (https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/running-model.html).
    """

    start_seconds: float = _setting(600.0, "from StartProjectVersion to RUNNING")
    stop_seconds: float = _setting(60.0, "from StopProjectVersion to STOPPED")
    time_scale: float = _setting(1.0, "multiplies both durations")
    tps_per_unit: float = _setting(5.0, "DetectCustomLabels an inference unit serves a second", least=0.001)
    account_tps: float = _setting(50.0, "DetectCustomLabels an account may call a second", least=0.001)
    control_tps: float = _setting(5.0, "calls a second of each other Rekognition operation", least=0.001)
    inference_latency: float = _setting(0.0, "seconds that half of all DetectCustomLabels take at least")
    inference_latency_spread: float = _setting(0.0, "how much they vary: the sigma of a log-normal distribution")
    describe_delay: float = _setting(0.0, "seconds that a DescribeProjectVersions takes at least")
    describe_lag: float = _setting(0.0, "seconds ago whose statuses DescribeProjectVersions tells")
    max_inference_units: int = _setting(5, "inference units a started model may have", least=1)
    max_running_models: int = _setting(2, "models an account may run at a time", least=1)
    stop_while_starting: str = _setting(
        "accept",
        "what StopProjectVersion does to a STARTING model, which AWS does not say",
        choices=("accept", "refuse"),
    )


def updated(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """`settings` with `changes`; ValueError lists every unknown name and every unusable value."""
    fields = {each.name: each for each in dataclasses.fields(Settings)}
    problems, values = [], {}
    for name, value in changes.items():
        if name not in fields:
            problems.append(f"{name}: no such setting; there are {', '.join(fields)}")
            continue
        choices, least = fields[name].metadata["choices"], fields[name].metadata["least"]
        if choices:
            if value not in choices:
                problems.append(f"{name}: {value!r} is none of {', '.join(choices)}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or value < least:
            problems.append(f"{name}: {value!r} is not a number of at least {least}")
        values[name] = value
    if problems:
        raise ValueError("; ".join(problems))
    return dataclasses.replace(settings, **values)
