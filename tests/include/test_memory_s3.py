"""S3 in memory answers what local AWS answers: the same conversation with both, word for word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.include.memory_s3 import Killed, MemoryS3


def said(call: Callable[[], dict[str, Any]]) -> Any:
    """What a client's caller sees of an answer."""
    try:
        answer = call()
    except ClientError as err:
        return err.response["Error"]["Code"], err.response["ResponseMetadata"]["HTTPStatusCode"]
    seen = {name: answer[name] for name in ("ETag", "ContentRange", "ContentLength", "Metadata") if name in answer}
    return seen | ({"Body": answer["Body"].read()} if "Body" in answer else {})


def conversation(s3: Any, bucket: str) -> Iterator[Any]:
    first = s3.put_object(Bucket=bucket, Key="a", Body=b"first", Metadata={"status": "LABELLED"})["ETag"]
    yield said(lambda: s3.get_object(Bucket=bucket, Key="a"))
    yield said(lambda: s3.get_object(Bucket=bucket, Key="a", Range="bytes=0-2"))
    yield said(lambda: s3.get_object(Bucket=bucket, Key="a", Range="bytes=0-99"))
    yield said(lambda: s3.get_object(Bucket=bucket, Key="a", IfMatch=first, Range="bytes=2-3"))
    yield said(lambda: s3.get_object(Bucket=bucket, Key="a", IfMatch='"wrong"', Range="bytes=0-2"))
    yield said(lambda: s3.get_object(Bucket=bucket, Key="none"))
    yield said(lambda: s3.head_object(Bucket=bucket, Key="a"))
    yield said(lambda: s3.head_object(Bucket=bucket, Key="none"))
    yield said(lambda: s3.get_object(Bucket="no-such-bucket-here", Key="a"))
    yield said(lambda: s3.put_object(Bucket=bucket, Key="a", Body=b"x", IfNoneMatch="*"))
    yield said(lambda: s3.put_object(Bucket=bucket, Key="a", Body=b"x", IfMatch='"wrong"'))
    yield said(lambda: s3.put_object(Bucket=bucket, Key="none", Body=b"x", IfMatch=first))
    yield said(lambda: s3.put_object(Bucket=bucket, Key="a", Body=b"second", IfMatch=first))
    yield said(lambda: s3.put_object(Bucket=bucket, Key="empty", Body=b""))
    yield said(lambda: s3.get_object(Bucket=bucket, Key="empty", Range="bytes=0-9"))
    source = {"Bucket": bucket, "Key": "a"}
    yield said(lambda: s3.copy_object(Bucket=bucket, Key="c", CopySource=source, CopySourceIfMatch=first))
    s3.copy_object(Bucket=bucket, Key="c", CopySource=source)
    yield said(lambda: s3.copy_object(Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "none"}))
    yield said(lambda: s3.copy_object(Bucket=bucket, Key="c", CopySource=source, IfNoneMatch="*"))
    yield said(lambda: s3.copy_object(Bucket=bucket, Key="new", CopySource=source, IfNoneMatch="*"))
    yield said(lambda: s3.get_object(Bucket=bucket, Key="c"))
    yield said(lambda: s3.delete_object(Bucket=bucket, Key="a"))
    yield said(lambda: s3.delete_object(Bucket=bucket, Key="a"))
    yield said(lambda: s3.get_object(Bucket=bucket, Key="a"))
    s3.put_object(Bucket=bucket, Key="Z/é 🦊+%.jpg", Body=b"z")
    for prefix in ("", "Z/", "none/"):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        yield [(item["Key"], item["ETag"], item["Size"]) for page in pages for item in page.get("Contents", [])]
    yield said(lambda: s3.head_bucket(Bucket=bucket))
    yield said(lambda: s3.head_bucket(Bucket="no-such-bucket-here"))
    for most in (1, 2, 3, 1_000):
        page = s3.list_objects_v2(Bucket=bucket, Prefix="", StartAfter="a", MaxKeys=most)
        yield [item["Key"] for item in page.get("Contents", [])], page["IsTruncated"]
    for start in ("", "Z/é 🦊", "Z/é 🦊+%.jpg", "b", "none"):
        page = s3.list_objects_v2(Bucket=bucket, Prefix="", StartAfter=start)
        yield [item["Key"] for item in page.get("Contents", [])], page["IsTruncated"]


def versions(s3: Any, bucket: str) -> Iterator[Any]:
    first = s3.put_object(Bucket=bucket, Key="a", Body=b"first")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="a", Body=b"second")["VersionId"]
    yield said(lambda: s3.get_object(Bucket=bucket, Key="a"))
    yield said(lambda: s3.get_object(Bucket=bucket, Key="a", VersionId=first))
    yield said(lambda: s3.head_object(Bucket=bucket, Key="a", VersionId=first))
    source = {"Bucket": bucket, "Key": "a", "VersionId": first}
    s3.copy_object(Bucket=bucket, Key="c", CopySource=source)
    yield said(lambda: s3.get_object(Bucket=bucket, Key="c"))
    s3.delete_object(Bucket=bucket, Key="a", VersionId=second)
    yield said(lambda: s3.get_object(Bucket=bucket, Key="a"))
    s3.delete_object(Bucket=bucket, Key="a", VersionId=first)
    yield said(lambda: s3.get_object(Bucket=bucket, Key="a"))


def test_it_answers_what_local_aws_answers(aws_s3: Any, unique: str) -> None:
    aws_s3.create_bucket(Bucket=unique)
    assert list(conversation(MemoryS3(unique), unique)) == list(conversation(aws_s3, unique))


def test_it_keeps_versions_as_local_aws_does(aws_s3: Any, unique: str) -> None:
    aws_s3.create_bucket(Bucket=unique)
    aws_s3.put_bucket_versioning(Bucket=unique, VersioningConfiguration={"Status": "Enabled"})
    assert list(versions(MemoryS3(versioned=(unique,)), unique)) == list(versions(aws_s3, unique))


@pytest.mark.parametrize(("after_the_effect", "left"), [(False, ["a"]), (True, ["a", "b"])])
def test_a_process_that_dies_makes_no_further_call(after_the_effect: bool, left: list[str]) -> None:
    s3 = MemoryS3("bucket")
    s3.dies_at, s3.dies_after_the_effect = 2, after_the_effect
    s3.put_object(Bucket="bucket", Key="a", Body=b"")
    for key in "bc":
        with pytest.raises(Killed):
            s3.put_object(Bucket="bucket", Key=key, Body=b"")
    assert s3.keys("bucket") == left
