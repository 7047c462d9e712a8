"""What a fault does to a request: a delay, a refusal, half a batch, or a connection that is cut."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import uuid
from collections.abc import Awaitable, Callable
from xml.sax.saxutils import escape

from local_aws.faults import Fault
from local_aws.json_service import JsonService
from local_aws.wire import AwsError, Request, Response, json_response

# Where it is not 400. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList
# and, for ThrottlingException, https://docs.aws.amazon.com/rekognition/latest/dg/error-handling.html
_USUAL_STATUS = {
    "AccessDenied": 403,
    "InternalError": 500,
    "InternalFailure": 500,
    "InternalServerError": 500,
    "InvalidAccessKeyId": 403,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "PreconditionFailed": 412,
    "RequestTimeTooSkewed": 403,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "ThrottlingException": 500,
}


async def disturbed(
    fault: Fault, request: Request, handler: Callable[[Request], Awaitable[Response]]
) -> Response | None:
    """The answer to a request that a fault strikes; None where the connection is to be cut.

    A request whose client goes away during the delay is carried out all the same, as one on its way through a network.
    """
    if fault.delay_seconds:
        await asyncio.sleep(fault.delay_seconds)
    if fault.drop == "before":
        return None
    if fault.failed_entries:
        return await _partly(fault, request, handler)
    if fault.error:
        error = AwsError(fault.error, fault.message, fault.status or _USUAL_STATUS.get(fault.error, 400))
        return handler.refusal(error) if isinstance(handler, JsonService) else _s3_refusal(error, request)
    response = await handler(request)
    return None if fault.drop == "after" else response


async def _partly(fault: Fault, request: Request, handler: Callable[[Request], Awaitable[Response]]) -> Response:
    """Carry a batch out but for its first entries, which are in `Failed`."""
    body = json.loads(request.body or b"{}")
    entries = body.get("Entries") or []
    refused, kept = entries[: fault.failed_entries], entries[fault.failed_entries :]
    if kept or not refused:
        rest = json.dumps({**body, "Entries": kept}).encode()
        response = await handler(dataclasses.replace(request, body=rest))
    else:
        response = json_response({"Successful": []}, content_type="application/x-amz-json-1.0")
    if response.status != 200:
        return response
    answer = json.loads(response.body)
    code = fault.error or "InternalError"
    failed = [{"Id": each["Id"], "SenderFault": False, "Code": code, "Message": fault.message} for each in refused]
    answer["Failed"] = [*answer.get("Failed", ()), *failed]
    return dataclasses.replace(response, body=json.dumps(answer).encode())


def _s3_refusal(error: AwsError, request: Request) -> Response:
    """S3's error; one to a HEAD has no body, and botocore then takes the status for the code.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#RESTErrorResponses
    """
    request_id = uuid.uuid4().hex[:16].upper()
    headers = [("content-type", "application/xml"), ("x-amz-request-id", request_id)]
    if request.method == "HEAD":
        return Response(error.status, headers)
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
        f"<Resource>{escape(request.path)}</Resource><RequestId>{request_id}</RequestId></Error>"
    )
    return Response(error.status, headers, body.encode())
