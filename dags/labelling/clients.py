"""AWS clients for the library, from the Airflow connection: credentials, region and endpoint come from there."""

from __future__ import annotations

from functools import cache
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.config import Config

from include.settings import Settings
from labelling.defaults import AWS_CONN_ID


@cache
def client(service: str, settings: Settings) -> Any:
    """A client whose connection pool is as large as the stages' thread pools; made once, at 0.2 s of CPU."""
    return _client(service, settings, Config(max_pool_connections=settings.threads + 4))


def inference_client(settings: Settings) -> Any:
    """A Rekognition client that makes each call once: inference paces and repeats calls itself."""
    config = Config(
        retries={"total_max_attempts": 1},
        max_pool_connections=settings.inference_threads,
        connect_timeout=5,
        read_timeout=30,
    )
    return _client("rekognition", settings, config)


def _client(service: str, settings: Settings, config: Config) -> Any:
    hook = AwsBaseHook(aws_conn_id=AWS_CONN_ID, region_name=settings.region, client_type=service)
    return hook.get_client_type(config=(hook.config or Config()).merge(config))
