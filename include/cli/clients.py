"""AWS clients for the command line: region from the settings, credentials and endpoint from boto3's usual places."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from include.model_state import ModelStateStore
from include.settings import Settings


def client(service: str, settings: Settings) -> Any:
    """A client whose connection pool is as large as the thread pools."""
    config = Config(max_pool_connections=settings.threads + 4, connect_timeout=10)
    return boto3.client(service, region_name=settings.region, config=config)


def model_state(settings: Settings) -> ModelStateStore:
    """The object that holds lease and hold."""
    return ModelStateStore.of(client("s3", settings), settings.final_bucket, settings.model)
