"""One line of a diagnosis, and the two ways to get it: try something, or look something up. Neither changes anything."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, Literal

from botocore.exceptions import BotoCoreError, ClientError

from include.errors import error_code, error_message
from include.settings import Settings

Result = Literal["ok", "warning", "failed", "not tried"]

DENIED: Final = frozenset(
    {"403", "AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException"}
)
THROTTLED: Final = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestThrottled"})


@dataclass(frozen=True, slots=True)
class Check:
    """What was found; ``mend`` is a command to type, with every name filled in."""

    area: str
    name: str
    result: Result
    found: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """A deployment to look at. ``caller`` is the ARN of whoever looks; empty where that is unknown."""

    settings: Settings
    client: Callable[[str], Any]
    caller: str = ""

    @property
    def partition(self) -> str:
        """``aws``, or ``aws-cn`` and the like."""
        return self.settings.project_arn.split(":")[1]

    def bucket_arn(self, bucket: str) -> str:
        return f"arn:{self.partition}:s3:::{bucket}"

    def queue_arn(self, url: str) -> str:
        account, name = url.rstrip("/").split("/")[-2:]
        return f"arn:{self.partition}:sqs:{self.settings.region}:{account}:{name}"


def tried(
    patient: Patient,
    area: str,
    action: str,
    resource: str,
    call: Callable[[], object],
    *,
    expected: Collection[str] = (),
    mend: str = "",
) -> Check:
    """Whether an action is allowed: try it so that it does nothing.

    :param resource: the ARN that the permission is for.
    :param expected: error codes that only come behind the permission, such as NoSuchKey.
    :param mend: what to type where it fails for another reason than the permission.
    """
    try:
        call()
    except ClientError as err:
        code = error_code(err)
        if code in expected:
            return Check(area, action, "ok", f"allowed ({code})")
        if code in DENIED:
            return Check(area, action, "failed", f"denied: {error_message(err)}", allow(patient, action, resource))
        if is_passing(err):
            return Check(area, action, "not tried", f"AWS answered {code}: try again")
        return Check(area, action, "failed", f"{code}: {error_message(err)}", mend)
    except BotoCoreError as err:
        return Check(area, action, "failed", str(err))
    return Check(area, action, "ok", "allowed")


def looked_up(
    area: str, name: str, action: str, call: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], None] | tuple[None, Check]:
    """What AWS says, or why it is not known. The pipeline does not need this permission, so that it is missing is no fault."""
    try:
        return call(), None
    except ClientError as err:
        if error_code(err) in DENIED:
            return None, Check(area, name, "not tried", f"these credentials may not look ({action})")
        result: Result = "not tried" if is_passing(err) else "failed"
        return None, Check(area, name, result, f"{error_code(err)}: {error_message(err)}")
    except BotoCoreError as err:
        return None, Check(area, name, "failed", str(err))


def is_passing(error: ClientError) -> bool:
    """Whether it says nothing but that AWS is busy."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or error_code(error) in THROTTLED


def allow(patient: Patient, action: str, resource: str) -> str:
    """The command that gives whoever looks this permission; empty where it is not known who that is."""
    who = re.search(r":assumed-role/(?P<role>[^/]+)/|:user/(?:.*/)?(?P<user>[^/]+)$", patient.caller)
    if who is None:
        return ""
    kind = "role" if who["role"] else "user"
    name = re.sub(r"[^A-Za-z0-9]+", "-", f"label-images {action} {resource.rpartition(':')[2]}")[:128].strip("-")
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}],
    }
    return typed(
        *("aws", "iam", f"put-{kind}-policy", f"--{kind}-name", who[kind]),
        *("--policy-name", name, "--policy-document", json.dumps(policy)),
    )


def typed(*words: str) -> str:
    """A command as a shell takes it."""
    return shlex.join(words)
