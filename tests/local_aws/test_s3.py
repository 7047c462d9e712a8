"""S3 through the gateway: what the pipeline does with it, and what HTTP asks of it."""

from __future__ import annotations

import http.client
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from local_aws.process import LocalAws

KEYS = [
    "plain.jpg",
    "folder/with space.JPG",
    "a+b (1).png",
    "100%.jpg",
    "100%25.jpg",
    "ümläut/é.jpg",
    "😀.jpeg",
    "/leading/slash.jpg",
    "double//slash.jpg",
    "up/../down.jpg",
    "quote'\"&<>.jpg",
    "a?b#c=d;e.jpg",
    "trailing/",
]


@pytest.fixture
def s3(aws: LocalAws) -> Any:
    return aws.client("s3", retries={"total_max_attempts": 1})


def code(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_comes_back_as_it_was_put(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode(), Metadata={"my_note": "x"})
    got = s3.get_object(Bucket=bucket, Key=key)
    assert (got["Body"].read(), got["Metadata"]) == (key.encode(), {"my_note": "x"})
    s3.copy_object(Bucket=bucket, Key=f"copy of {key}", CopySource={"Bucket": bucket, "Key": key})
    listed = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert sorted(listed) == sorted([key, f"copy of {key}"])
    s3.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(ClientError) as error:
        s3.head_object(Bucket=bucket, Key=key)
    assert code(error) == (404, "404")


def test_head_and_ranges_tell_lengths(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789", ContentType="image/jpeg")
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ContentLength"], head["ContentType"]) == (10, "image/jpeg")
    part = s3.get_object(Bucket=bucket, Key="k", Range="bytes=2-4")
    assert (part["Body"].read(), part["ContentRange"]) == (b"234", "bytes 2-4/10")
    assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key="k", Range="bytes=20-")
    assert code(error)[0] == 416


def test_a_stream_is_uploaded_in_signed_chunks_with_a_trailing_checksum(s3: Any, bucket: str) -> None:
    data = bytes(range(256)) * 40_000
    s3.put_object(Bucket=bucket, Key="k", Body=io.BytesIO(data), ChecksumAlgorithm="SHA256")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == data


def test_a_multipart_upload_becomes_one_object(s3: Any, bucket: str) -> None:
    s3.upload_fileobj(io.BytesIO(b"x" * 12_000_000), bucket, "big")
    assert s3.head_object(Bucket=bucket, Key="big")["ContentLength"] == 12_000_000


def test_writes_are_conditional(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="lease", Body=b"1", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="lease", Body=b"2", IfNoneMatch="*")
    assert code(error) == (412, "PreconditionFailed")
    second = s3.put_object(Bucket=bucket, Key="lease", Body=b"2", IfMatch=etag)["ETag"]
    calls: list[Callable[[], Any]] = [
        lambda: s3.put_object(Bucket=bucket, Key="lease", Body=b"3", IfMatch=etag),
        lambda: s3.delete_object(Bucket=bucket, Key="lease", IfMatch=etag),
        lambda: s3.copy_object(
            Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "lease"}, CopySourceIfMatch=etag
        ),
    ]
    for call in calls:
        with pytest.raises(ClientError) as error:
            call()
        assert code(error) == (412, "PreconditionFailed")
    source = {"Bucket": bucket, "Key": "lease"}
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=source, CopySourceIfMatch=second, IfNoneMatch="*")
    with pytest.raises(ClientError) as error:
        s3.copy_object(Bucket=bucket, Key="copy", CopySource=source, IfNoneMatch="*")
    assert code(error) == (412, "PreconditionFailed")
    s3.delete_object(Bucket=bucket, Key="lease", IfMatch=second)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="lease", Body=b"3", IfMatch=second)
    assert code(error) == (404, "NoSuchKey")


def test_of_many_at_once_exactly_one_takes_a_lease(s3: Any, bucket: str) -> None:
    def take(attempt: int) -> bool:
        try:
            s3.put_object(Bucket=bucket, Key="lease", Body=str(attempt).encode(), IfNoneMatch="*")
        except ClientError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(take, range(40))) == 1


def test_a_versioned_bucket_keeps_what_is_overwritten(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"2")
    s3.delete_object(Bucket=bucket, Key="k")
    assert s3.get_object(Bucket=bucket, Key="k", VersionId=first)["Body"].read() == b"1"
    assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 2


def test_a_long_listing_comes_in_pages(s3: Any, bucket: str) -> None:
    for number in range(25):
        s3.put_object(Bucket=bucket, Key=f"p/{number:02}", Body=b"")
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 10}))
    assert [len(page["Contents"]) for page in pages] == [10, 10, 5]


def test_a_connection_serves_many_requests_of_every_service(aws: LocalAws, bucket: str) -> None:
    address = urlsplit(aws.endpoint_url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port)
    connection.connect()
    socket = connection.sock
    signed = "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=x"
    for service, method, path, headers in (
        ("s3", "PUT", f"/{bucket}/k", {}),
        ("s3", "HEAD", f"/{bucket}/k", {}),
        ("sqs", "POST", "/", {"X-Amz-Target": "AmazonSQS.ListQueues"}),
        ("rekognition", "POST", "/", {"X-Amz-Target": "RekognitionService.DescribeProjects"}),
        ("s3", "GET", f"/{bucket}/missing", {}),
        ("s3", "GET", f"/{bucket}/k", {}),
    ):
        connection.request(method, path, b"{}", {"Authorization": signed.format(service), **headers})
        response = connection.getresponse()
        response.read()
        assert response.status == (404 if path.endswith("missing") else 200)
        assert connection.sock is socket
    connection.close()


def test_a_presigned_url_needs_no_header(aws: LocalAws, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a b.jpg", Body=b"x")
    url = urlsplit(s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a b.jpg"}))
    connection = http.client.HTTPConnection(str(url.hostname), url.port)
    connection.request("GET", f"{url.path}?{url.query}")
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"x")
    connection.close()


@pytest.mark.parametrize(
    ("service", "call"),
    [
        ("sns", lambda client: client.list_topics()),
        ("events", lambda client: client.list_rules()),
        ("dynamodb", lambda client: client.list_tables()),
        ("glue", lambda client: client.get_databases()),
        ("iam", lambda client: client.list_roles()),
        ("sts", lambda client: client.get_caller_identity()),
        ("cloudwatch", lambda client: client.list_metrics()),
        ("logs", lambda client: client.describe_log_groups()),
        ("secretsmanager", lambda client: client.list_secrets()),
        ("ssm", lambda client: client.describe_parameters()),
    ],
)
def test_other_services_answer_at_the_same_endpoint(aws: LocalAws, service: str, call: Any) -> None:
    assert call(aws.client(service))["ResponseMetadata"]["HTTPStatusCode"] == 200
