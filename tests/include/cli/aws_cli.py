"""The AWS CLI, as far as the doctor tells people to type it: words in, a call of botocore's own operation out."""

from __future__ import annotations

import json
import shlex
from typing import Any

from botocore import xform_name
from botocore.session import get_session

GLOBAL = {"output", "query", "region"}


def call_of(command: str) -> tuple[str, str, dict[str, Any]]:
    """Service, method and parameters; fails where the CLI would."""
    program, service, operation, *words = shlex.split(command)
    assert program == "aws"
    if service == "s3":
        bucket, _, key = next(word for word in words if word.startswith("s3://"))[5:].partition("/")
        return {
            "mb": ("s3", "create_bucket", {"Bucket": bucket}),
            "rm": ("s3", "delete_object", {"Bucket": bucket, "Key": key}),
        }[operation]
    service = {"s3api": "s3"}.get(service, service)
    model = get_session().get_service_model(service)
    name = {xform_name(each, "-"): each for each in model.operation_names}[operation]
    shape = model.operation_model(name).input_shape
    assert shape is not None
    members = {xform_name(each, "-"): each for each in shape.members}
    given = dict(zip([word[2:] for word in words[::2]], words[1::2], strict=True))
    parameters = {members[option]: value for option, value in given.items() if option not in GLOBAL}
    assert set(shape.required_members) <= parameters.keys()
    structured = {
        each: json.loads(value) for each, value in parameters.items() if shape.members[each].type_name != "string"
    }
    return service, xform_name(name), parameters | structured


def type_aws(aws: Any, command: str) -> None:
    """Carry a command out; ``aws.client(service)`` gives its client."""
    service, method, parameters = call_of(command)
    getattr(aws.client(service), method)(**parameters)
