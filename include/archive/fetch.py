"""A file that a request names, opened for reading in pieces; what is missing or forbidden is said in words."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from include import objects
from include.errors import SelectionError, error_code


def open_object(s3: Any, bucket: str, key: str, *, missing: str) -> Any:
    """An object's body.

    :param missing: what to do where there is no such object.
    :raises SelectionError: where there is none, or it may not be read.
    """
    try:
        return s3.get_object(Bucket=bucket, Key=key)["Body"]
    except ClientError as err:
        uri = f"s3://{bucket}/{key}"
        if objects.is_missing(err) or error_code(err) == "NoSuchBucket":
            raise SelectionError(f"{uri} does not exist: {missing}") from err
        if objects.is_denied(err):
            raise SelectionError(
                f"{uri} may not be read by the role of the Airflow connection: it needs s3:GetObject there (and the key, "
                "where it is encrypted with one)."
            ) from err
        raise
