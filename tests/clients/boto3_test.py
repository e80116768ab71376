#!/usr/bin/env python3
"""boto3, the SDK for Python, on everything that davkv promises of S3."""

import base64
import contextlib
import datetime
import hashlib
import http.client
import io
import itertools
import json
import os
import random
import re
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import boto3
import botocore.crt.auth
from awscrt import checksums
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from scenarios import ENDPOINT, OPEN, holds, noise, only, run

MIB = 1 << 20
KIB = 1 << 10
# the least size of a part that is not the last
PART = 5 * MIB

# a retry would hide an answer that should not have been given
ONCE = Config(retries={"total_max_attempts": 1}, max_pool_connections=32)


def client(config=None, **parameters):
    return boto3.client("s3", config=ONCE.merge(config) if config else ONCE, **parameters)


def anonymous():
    return client(Config(signature_version=UNSIGNED))


def with_key(name):
    """A client with one of the other keys of the credentials file."""
    access, secret = os.environ[name].split(":")
    return client(aws_access_key_id=access, aws_secret_access_key=secret)


s3 = client()


@contextlib.contextmanager
def fails(code, status=None):
    """That the request inside is refused so. Several codes are alternatives, between bars."""
    try:
        yield
    except ClientError as error:
        got = error.response["Error"]["Code"]
        assert got in code.split("|"), f"{code} expected, got {got}: {error}"
        got = error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert status in (None, got), f"status {status} expected, got {got}: {error}"
    else:
        raise AssertionError(f"{code} expected, and it was done")


def put(bucket, key, body=b"value", **parameters):
    return s3.put_object(Bucket=bucket, Key=key, Body=body, **parameters)


def get(bucket, key, **parameters):
    return s3.get_object(Bucket=bucket, Key=key, **parameters)


def head(bucket, key, **parameters):
    return s3.head_object(Bucket=bucket, Key=key, **parameters)


def value(bucket, key, **parameters):
    return get(bucket, key, **parameters)["Body"].read()


def keys(bucket, **parameters):
    return [entry["Key"] for page in pages("list_objects_v2", Bucket=bucket, **parameters) for entry in page.get("Contents", [])]


def pages(operation, **parameters):
    return s3.get_paginator(operation).paginate(**parameters)


def absent(bucket, key):
    with fails("404", 404):
        head(bucket, key)
    return True


def md5(data):
    return hashlib.md5(data).hexdigest()


def etag(data):
    return f'"{md5(data)}"'


def etag_of_parts(parts):
    digests = b"".join(hashlib.md5(part).digest() for part in parts)
    return f'"{md5(digests)}-{len(parts)}"'


def b64(data):
    return base64.b64encode(data).decode()


def now():
    return datetime.datetime.now(datetime.timezone.utc)


HOUR = datetime.timedelta(hours=1)

CHECKSUMS = {
    "CRC32": lambda data: checksums.crc32(data).to_bytes(4, "big"),
    "CRC32C": lambda data: checksums.crc32c(data).to_bytes(4, "big"),
    "CRC64NVME": lambda data: checksums.crc64nvme(data).to_bytes(8, "big"),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}


def checksum(algorithm, data):
    return b64(CHECKSUMS[algorithm](data))


def fetch(url, method="GET", body=None, headers=None):
    """Status, headers and body of a plain HTTP request: what somebody does who was given a URL.

    Not by urllib, which makes up a Content-Type, and that would have to be signed.
    """
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    try:
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def follow(url):
    """As `fetch`, but to where the native API sends its readers."""
    status, headers, body = fetch(url)
    return fetch(headers["Location"]) if status == 302 else (status, headers, body)


@contextlib.contextmanager
def at(time):
    """Requests inside are signed as if it were then."""
    # the C runtime signs, where there is one, and it wants the time zone
    with mock.patch("botocore.crt.auth.get_current_datetime", lambda remove_tzinfo: time):
        yield


# -- objects


@holds
def an_object_is_what_was_put(bucket):
    body = noise(100_000)
    before = now() - datetime.timedelta(seconds=2)
    assert put(bucket, "key", body)["ETag"] == etag(body)
    answer = get(bucket, "key")
    assert answer["Body"].read() == body
    for answer in answer, head(bucket, "key"):
        assert answer["ContentLength"] == len(body)
        assert answer["ETag"] == etag(body)
        assert answer["ContentType"] == "binary/octet-stream", answer["ContentType"]
        assert before <= answer["LastModified"] <= now(), answer["LastModified"]
        assert answer["Metadata"] == {}
        assert answer["AcceptRanges"] == "bytes"
        assert "VersionId" not in answer, "the bucket is not versioned"
        assert answer["ResponseMetadata"]["RequestId"], "every answer has an id to ask about"


@holds
def a_deleted_object_is_gone_and_deleting_nothing_is_fine(bucket):
    put(bucket, "key")
    for _ in range(2):
        answer = s3.delete_object(Bucket=bucket, Key="key")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert "DeleteMarker" not in answer
        with fails("NoSuchKey", 404):
            get(bucket, "key")
        assert absent(bucket, "key")
    assert keys(bucket) == []


@holds
def an_object_may_be_overwritten(bucket):
    for body in b"first", b"the second", b"", b"4th":
        put(bucket, "key", body, Metadata={"size": str(len(body))})
        answer = get(bucket, "key")
        assert answer["Body"].read() == body
        assert answer["ETag"] == etag(body)
        assert answer["Metadata"] == {"size": str(len(body))}
    assert keys(bucket) == ["key"]


@holds
def a_reader_finishes_with_the_value_that_it_began_with(bucket):
    old, new = noise(24 * MIB, 1), noise(MIB, 2)
    put(bucket, "key", old)
    overwritten, deleted = get(bucket, "key")["Body"], get(bucket, "key")["Body"]
    begun = [reader.read(MIB) for reader in (overwritten, deleted)]
    put(bucket, "key", new)
    assert begun[0] + overwritten.read() == old
    assert value(bucket, "key") == new
    s3.delete_object(Bucket=bucket, Key="key")
    assert begun[1] + deleted.read() == old


@holds
def empty_objects_are_objects(bucket):
    put(bucket, "empty", b"", ContentType="text/plain")
    put(bucket, "folder/", b"")
    for key in "empty", "folder/":
        answer = get(bucket, key)
        assert answer["Body"].read() == b""
        assert answer["ETag"] == etag(b"")
        assert head(bucket, key)["ContentLength"] == 0
    assert head(bucket, "empty")["ContentType"] == "text/plain"
    assert [(c["Key"], c["Size"]) for c in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [("empty", 0), ("folder/", 0)]
    with fails("InvalidRange", 416):
        get(bucket, "empty", Range="bytes=0-0")


@holds
def empty_files_are_followed_by_others(bucket):
    # files are announced first, and boto3 misreads the next answer where an empty one is not told to go on
    for size in 0, 1, 0, 0, 100_000:
        body = noise(size, size)
        assert put(bucket, "key", io.BytesIO(body))["ETag"] == etag(body), size
        assert value(bucket, "key") == body


@holds
def any_size_comes_back_whole(bucket):
    for size in 1, 16 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB + 1, 9 * MIB:
        body = noise(size, size)
        put(bucket, "bytes", body)
        put(bucket, "stream", io.BytesIO(body))
        assert value(bucket, "bytes") == value(bucket, "stream") == body, size


@holds
def ranges_are_served(bucket):
    body = noise(300_000)
    put(bucket, "key", body)
    for asked, start, end in [
        ("0-0", 0, 1),
        ("0-99", 0, 100),
        ("100000-199999", 100_000, 200_000),
        ("299999-", 299_999, 300_000),
        ("1-", 1, 300_000),
        ("-1", 299_999, 300_000),
        ("-100000", 200_000, 300_000),
        ("-999999", 0, 300_000),
        ("250000-999999", 250_000, 300_000),
    ]:
        answer = get(bucket, "key", Range=f"bytes={asked}")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206, asked
        assert answer["Body"].read() == body[start:end], asked
        assert answer["ContentRange"] == f"bytes {start}-{end - 1}/300000", (asked, answer["ContentRange"])
        assert answer["ContentLength"] == end - start
        assert answer["ETag"] == etag(body)
        answer = head(bucket, "key", Range=f"bytes={asked}")
        assert answer["ContentLength"] == end - start, asked
    with fails("InvalidRange", 416):
        get(bucket, "key", Range="bytes=300000-")
    with fails("InvalidRange", 416):
        get(bucket, "key", Range="bytes=-0")


@holds
def a_range_that_makes_no_sense_is_ignored(bucket):
    put(bucket, "key", b"0123456789")
    url = presigned("s3v4", "get_object", Bucket=bucket, Key="key")
    for asked in "bytes=5-2", "bytes=x-y", "lines=1-2", "bytes=0-1,4-5":
        assert fetch(url, headers={"Range": asked})[::2] == (200, b"0123456789"), asked
        # boto3 signs it, and then it can't be taken off
        with contextlib.suppress(ClientError):
            assert value(bucket, "key", Range=asked) == b"0123456789", asked


SYSTEM = {
    "ContentType": 'text/html; charset="utf-8"',
    "CacheControl": "max-age=60, public",
    "ContentDisposition": "attachment; filename*=UTF-8''na%C3%AFve%20file.txt",
    "ContentEncoding": "gzip",
    "ContentLanguage": "de-AT",
}
EXPIRES = datetime.datetime(2031, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)


@holds
def headers_of_an_object_come_back(bucket):
    put(bucket, "key", Expires=EXPIRES, **SYSTEM)
    for answer in get(bucket, "key"), head(bucket, "key"), get(bucket, "key", Range="bytes=0-1"):
        assert {name: answer[name] for name in SYSTEM} == SYSTEM
        assert answer["Expires"] == EXPIRES
    put(bucket, "key")
    assert not {"CacheControl", "ContentEncoding", "ExpiresString"} & head(bucket, "key").keys(), "an overwrite replaces them all"


@holds
def a_reader_may_ask_for_other_headers(bucket):
    put(bucket, "key", ContentType="text/plain", CacheControl="no-cache")
    asked = {f"Response{name}": asked for name, asked in SYSTEM.items()}
    for answer in get(bucket, "key", ResponseExpires=EXPIRES, **asked), head(bucket, "key", ResponseExpires=EXPIRES, **asked):
        assert {name: answer[name] for name in SYSTEM} == SYSTEM
        assert answer["Expires"] == EXPIRES
    assert head(bucket, "key")["ContentType"] == "text/plain"


@holds
def metadata_comes_back(bucket):
    metadata = {
        "plain": "value",
        "With-Dashes_and.dots": "some words,  and: punctuation; \"quoted\" 'too'",
        "number": "1",
        "encoded": "=?UTF-8?B?w7xiZXI=?=",
        "percent": "%C3%BCber",
        "empty": "",
    }
    put(bucket, "key", Metadata=metadata)
    expected = {name.lower(): re.sub(" +", " ", content) for name, content in metadata.items()}
    for answer in get(bucket, "key"), head(bucket, "key"):
        got = {name.lower(): re.sub(" +", " ", content) for name, content in answer["Metadata"].items()}
        assert got == expected, got


@holds
def metadata_beyond_ascii_is_not_mangled(bucket):
    # boto3 itself refuses it; others send it as UTF-8, and sign that
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "key"})
    host = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(host.netloc)
    connection.putrequest("PUT", f"{host.path}?{host.query}")
    connection.putheader("x-amz-meta-name", "grün – 緑".encode())
    connection.putheader("Content-Length", "5")
    connection.endheaders(b"value")
    answer = connection.getresponse()
    if answer.status != 200:
        # a header that is not signed may be refused, and then nothing is there
        assert answer.status in (400, 403), answer.read()
        assert absent(bucket, "key")
        return
    got = head(bucket, "key")["Metadata"]["name"]
    plain = {"grün – 緑", "grün – 緑".encode().decode("latin-1")}
    encoded = {f"=?UTF-8?{kind}?{text}?=" for kind, text in [("B", b64("grün – 緑".encode())), ("Q", "gr=C3=BCn_=E2=80=93_=E7=B7=91")]}
    assert got in plain | encoded, got


@holds
def metadata_is_limited_to_two_kilobytes(bucket):
    put(bucket, "key", Metadata={"a": "x" * 1000, "b": "x" * 1000})
    assert head(bucket, "key")["Metadata"]["b"] == "x" * 1000
    with fails("MetadataTooLarge|RequestHeaderSectionTooLarge", 400):
        put(bucket, "other", Metadata={"a": "x" * 1500, "b": "x" * 1500})
    assert absent(bucket, "other")


ODD_KEYS = [
    "a b",
    " leading and trailing ",
    "a+b",
    "a%b",
    "a%2Fb",
    "a%20b",
    "100%",
    "'single' \"double\" `back`",
    "<tag attribute='1'>&amp;</tag>",
    "]]>",
    "a//b",
    "/a",
    "//",
    "///a///",
    "a/",
    "a/b/",
    "a.b/.c/..d/e..",
    "...",
    "~tilde-dash_underscore.dot",
    "!*'();:@&=+$,/?#[]",
    "back\\slash^{}|",
    "?list",
    "a?b=c&d",
    "#fragment",
    "über/naïve",
    "e\u0301 is not \u00e9",
    "\u00e9 is not e\u0301",
    "日本語/キー",
    "😀/🦀",
    "\u00a0\u2003\ufeff",
    "\U0010fffd\ufffd",
    "k" * 1024,
    "é" * 512,
    "日" * 341 + "k",
    "d/" * 512,
    "/" * 1024,
    ("x" * 255 + "/") * 4,
]


@holds
def odd_keys_are_keys_like_any_other(bucket):
    for key in ODD_KEYS:
        put(bucket, key, key.encode(), Metadata={"hash": md5(key.encode())})
    for key in ODD_KEYS:
        answer = get(bucket, key)
        assert answer["Body"].read() == key.encode(), key
        assert head(bucket, key)["Metadata"]["hash"] == md5(key.encode()), key
    expected = sorted(ODD_KEYS, key=str.encode)
    assert keys(bucket) == expected
    assert [c["Key"] for page in pages("list_objects", Bucket=bucket, MaxKeys=5) for c in page["Contents"]] == expected
    assert keys(bucket, PaginationConfig={"PageSize": 1}) == expected
    for key in ODD_KEYS:
        assert key in keys(bucket, Prefix=key), key
        assert s3.list_objects_v2(Bucket=bucket, StartAfter=key).get("Contents", [{"Key": None}])[0]["Key"] == next(
            iter(expected[expected.index(key) + 1 :]), None
        ), key
    for key in ODD_KEYS[::2]:
        s3.delete_object(Bucket=bucket, Key=key)
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in ODD_KEYS[1::2]]})
    assert {deleted["Key"] for deleted in answer["Deleted"]} == set(ODD_KEYS[1::2]), answer
    assert keys(bucket) == []


@holds
def odd_keys_may_be_copied_uploaded_in_parts_and_presigned(bucket):
    for n, key in enumerate(ODD_KEYS):
        put(bucket, key, b"source")
        s3.copy_object(Bucket=bucket, Key=f"copy {n}", CopySource={"Bucket": bucket, "Key": key})
        assert value(bucket, f"copy {n}") == b"source", key
        url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
        assert fetch(url)[::2] == (200, b"source"), key
        upload = Upload(bucket, key)
        upload.put(1, b"part")
        upload.complete()
        assert value(bucket, key) == b"part", key


@holds
def keys_are_limited_to_a_kibibyte(bucket):
    for key in "k" * 1025, "é" * 513:
        with fails("KeyTooLongError", 400):
            put(bucket, key)


@holds
def keys_with_control_characters_are_refused(bucket):
    for key in "a\nb", "a\x00b", "\x7f", "\x1b[31m":
        with fails("InvalidArgument|InvalidRequest|InvalidURI|InvalidObjectName|NotImplemented"):
            put(bucket, key)
    assert keys(bucket) == []


# -- conditions


@holds
def readers_may_state_conditions(bucket):
    tag = put(bucket, "key")["ETag"]
    modified = head(bucket, "key")["LastModified"]
    for read in get, head:
        missing = "304"
        failed = "PreconditionFailed|412"
        for good in [
            {"IfMatch": tag},
            {"IfNoneMatch": '"other"'},
            {"IfModifiedSince": modified - HOUR},
            {"IfUnmodifiedSince": modified},
            {"IfUnmodifiedSince": modified + HOUR},
            {"IfMatch": tag, "IfUnmodifiedSince": modified - HOUR},
            {"IfNoneMatch": '"other"', "IfModifiedSince": modified + HOUR},
        ]:
            assert read(bucket, "key", **good)["ETag"] == tag, good
        for unchanged in [
            {"IfNoneMatch": tag},
            {"IfNoneMatch": tag.strip('"')},
            {"IfNoneMatch": tag, "IfModifiedSince": modified - HOUR},
            {"IfModifiedSince": modified},
        ]:
            with fails(missing, 304):
                read(bucket, "key", **unchanged)
        for bad in [{"IfMatch": '"other"'}, {"IfUnmodifiedSince": modified - HOUR}]:
            with fails(failed, 412):
                read(bucket, "key", **bad)


@holds
def an_answer_that_nothing_has_changed_still_says_which_value_that_is(bucket):
    tag = put(bucket, "key", CacheControl="max-age=60")["ETag"]
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"})
    status, headers, body = fetch(url, headers={"If-None-Match": tag})
    assert (status, headers["ETag"], body) == (304, tag, b""), (status, headers.items(), body)


@holds
def writers_may_ask_for_the_key_to_be_new(bucket):
    put(bucket, "key", b"first", IfNoneMatch="*")
    with fails("PreconditionFailed", 412):
        put(bucket, "key", b"second", IfNoneMatch="*")
    assert value(bucket, "key") == b"first"
    s3.delete_object(Bucket=bucket, Key="key")
    put(bucket, "key", b"third", IfNoneMatch="*")
    assert value(bucket, "key") == b"third"


@holds
def writers_may_ask_for_the_value_to_be_the_known_one(bucket):
    with fails("NoSuchKey", 404):
        put(bucket, "key", IfMatch=etag(b"none"))
    assert absent(bucket, "key")
    tag = put(bucket, "key", b"first")["ETag"]
    with fails("PreconditionFailed", 412):
        put(bucket, "key", b"second", IfMatch=etag(b"other"))
    assert value(bucket, "key") == b"first"
    put(bucket, "key", b"second", IfMatch=tag)
    assert value(bucket, "key") == b"second"
    with fails("PreconditionFailed", 412):
        put(bucket, "key", b"third", IfMatch=tag)
    put(bucket, "key", b"third", IfMatch=etag(b"second").strip('"'))
    assert value(bucket, "key") == b"third"


@holds
def a_refused_large_value_leaves_the_old_one(bucket):
    put(bucket, "key", b"first")
    with fails("PreconditionFailed", 412):
        put(bucket, "key", noise(3 * MIB), IfNoneMatch="*")
    assert value(bucket, "key") == b"first"


@holds
def a_condition_that_is_not_understood_is_not_ignored(bucket):
    put(bucket, "key", b"first")
    with fails("NotImplemented"):
        put(bucket, "key", b"second", IfNoneMatch=etag(b"other"))
    with fails("PreconditionFailed|NotImplemented"):
        s3.delete_object(Bucket=bucket, Key="key", IfMatch=etag(b"other"))
    assert value(bucket, "key") == b"first"


@holds
def of_many_that_create_a_key_one_wins(bucket):
    with ThreadPoolExecutor(16) as pool:
        for n in range(12):
            start = threading.Barrier(16)

            def create(me, key=f"key {n}", start=start):
                start.wait()
                try:
                    put(bucket, key, f"mine, {me}".encode() * 1000, IfNoneMatch="*")
                    return me
                except ClientError as error:
                    assert error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"), error

            winners = [me for me in pool.map(create, range(16)) if me is not None]
            assert len(winners) == 1, f"{winners} have won"
            assert value(bucket, f"key {n}") == f"mine, {winners[0]}".encode() * 1000


@holds
def no_update_is_lost_that_is_conditional_on_the_value(bucket):
    put(bucket, "counter", b"0")

    def increment(_):
        while True:
            answer = get(bucket, "counter")
            try:
                put(bucket, "counter", str(int(answer["Body"].read()) + 1).encode(), IfMatch=answer["ETag"])
                return
            except ClientError as error:
                assert error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"), error

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increment, range(80)))
    assert value(bucket, "counter") == b"80"


@holds
def of_many_that_complete_uploads_to_a_new_key_one_wins(bucket):
    uploads = [Upload(bucket, "key") for _ in range(8)]
    for n, upload in enumerate(uploads):
        upload.put(1, b"%d" % n)
    start = threading.Barrier(8)

    def complete(n):
        start.wait()
        try:
            uploads[n].complete(IfNoneMatch="*")
            return n
        except ClientError as error:
            assert error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"), error

    with ThreadPoolExecutor(8) as pool:
        winners = [n for n in pool.map(complete, range(8)) if n is not None]
    assert len(winners) == 1, f"{winners} have won"
    assert value(bucket, "key") == b"%d" % winners[0]


@holds
def readers_never_see_a_mix_of_values(bucket):
    bodies = [bytes([n]) * size for n, size in enumerate([10, 70_000, 300_000, 1_000_000])]
    put(bucket, "key", bodies[0])
    done = threading.Event()

    def write(body):
        # overwrites that meet are allowed to be told so
        many = client(Config(retries={"mode": "standard", "total_max_attempts": 10}))
        for _ in range(12):
            many.put_object(Bucket=bucket, Key="key", Body=body)

    def read():
        count = 0
        while not done.is_set() or count < 4:
            answer = get(bucket, "key")
            body = answer["Body"].read()
            assert body in bodies, f"{len(body)} bytes of nobody's value"
            assert answer["ETag"] == etag(body), "the ETag of another value"
            count += 1
        return count

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        try:
            list(pool.map(write, bodies))
        finally:
            done.set()
        assert all(reader.result() for reader in readers)


# -- copies


@holds
def a_copy_has_the_value_and_what_is_said_of_it(bucket):
    body = noise(6 * MIB)
    put(bucket, "source", body, Metadata={"color": "green"}, ContentType="text/plain", CacheControl="no-cache")
    result = s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/source")["CopyObjectResult"]
    assert result["ETag"] == etag(body)
    assert abs(result["LastModified"] - now()) < HOUR
    answer = get(bucket, "copy")
    assert answer["Body"].read() == body
    assert answer["Metadata"] == {"color": "green"}
    assert (answer["ContentType"], answer["CacheControl"]) == ("text/plain", "no-cache")
    s3.delete_object(Bucket=bucket, Key="source")
    assert value(bucket, "copy") == body, "it lives on without its source"


@holds
def a_copy_may_be_given_other_metadata(bucket):
    put(bucket, "source", Metadata={"color": "green", "size": "L"}, ContentType="text/plain", CacheControl="no-cache")
    s3.copy_object(
        Bucket=bucket,
        Key="copy",
        CopySource=f"/{bucket}/source",
        MetadataDirective="REPLACE",
        Metadata={"color": "red"},
        ContentType="text/html",
    )
    answer = head(bucket, "copy")
    assert answer["Metadata"] == {"color": "red"}
    assert answer["ContentType"] == "text/html"
    assert "CacheControl" not in answer
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/source", MetadataDirective="COPY", Metadata={"color": "blue"})
    assert head(bucket, "copy")["Metadata"] == {"color": "green", "size": "L"}


@holds
def a_copy_onto_itself_must_change_something(bucket):
    put(bucket, "key", b"value", Metadata={"color": "green"})
    with fails("InvalidRequest", 400):
        s3.copy_object(Bucket=bucket, Key="key", CopySource=f"{bucket}/key")
    s3.copy_object(Bucket=bucket, Key="key", CopySource=f"{bucket}/key", MetadataDirective="REPLACE", Metadata={"color": "red"})
    answer = get(bucket, "key")
    assert (answer["Body"].read(), answer["Metadata"]) == (b"value", {"color": "red"})


@holds
def copies_go_between_buckets_and_over_what_is_there(bucket):
    with other_bucket(bucket) as other:
        put(bucket, "key", b"new")
        put(other, "key", b"what was there")
        s3.copy_object(Bucket=other, Key="key", CopySource={"Bucket": bucket, "Key": "key"})
        assert value(other, "key") == b"new"


@holds
def copies_may_state_conditions(bucket):
    tag = put(bucket, "source", b"new")["ETag"]
    put(bucket, "copy", b"old")
    modified = head(bucket, "source")["LastModified"]

    def copy(**conditions):
        s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/source", **conditions)

    for bad in [
        {"CopySourceIfMatch": '"other"'},
        {"CopySourceIfNoneMatch": tag},
        {"CopySourceIfUnmodifiedSince": modified - HOUR},
        {"CopySourceIfModifiedSince": modified},
        {"IfNoneMatch": "*"},
        {"IfMatch": '"other"'},
    ]:
        with fails("PreconditionFailed", 412):
            copy(**bad)
    assert value(bucket, "copy") == b"old"
    for good in [
        {"CopySourceIfMatch": tag},
        {"CopySourceIfNoneMatch": '"other"'},
        {"CopySourceIfUnmodifiedSince": modified},
        {"CopySourceIfModifiedSince": modified - HOUR},
        {"IfMatch": tag},
    ]:
        copy(**good)
    assert value(bucket, "copy") == b"new"


@holds
def a_copy_of_nothing_is_refused(bucket):
    with fails("NoSuchKey", 404):
        s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/none")
    assert keys(bucket) == []


@holds
def large_copies_are_made_in_parts(bucket):
    body = noise(12 * MIB)
    put(bucket, "source", body, ContentType="text/plain", Metadata={"a": "b"})
    config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART)
    s3.copy({"Bucket": bucket, "Key": "source"}, bucket, "copy", Config=config)
    answer = get(bucket, "copy")
    assert answer["Body"].read() == body
    assert answer["ETag"] == etag_of_parts([body[:PART], body[PART : 2 * PART], body[2 * PART :]])


# -- many at once


@holds
def a_thousand_keys_are_deleted_at_once(bucket):
    names = [f"folder {n % 7}/key {n:04}" for n in range(997)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: put(bucket, key, b"x"), names))
    assert sorted(keys(bucket)) == sorted(names)
    assert len(s3.list_objects_v2(Bucket=bucket, Prefix="folder 1/key 0")["Contents"]) == len([n for n in names if n.startswith("folder 1/key 0")])
    everything = names + ["none 1", "none 2", "none 3"]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Quiet": True, "Objects": [{"Key": key} for key in everything]})
    assert "Deleted" not in answer and "Errors" not in answer, answer
    assert keys(bucket) == []


@holds
def whoever_deletes_many_is_told_which(bucket):
    for key in "a", "b", "stays":
        put(bucket, key)
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "none"}, {"Key": "b"}]})
    assert sorted(deleted["Key"] for deleted in answer["Deleted"]) == ["a", "b", "none"]
    assert "Errors" not in answer
    assert keys(bucket) == ["stays"]


@holds
def more_than_a_thousand_are_not_deleted_at_once(bucket):
    put(bucket, "0")
    with fails("MalformedXML", 400):
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": str(n)} for n in range(1001)]})
    assert keys(bucket) == ["0"]


# -- checksums


@holds
def each_checksum_is_verified_kept_and_returned(bucket):
    body = noise(200_000)
    for algorithm in CHECKSUMS:
        expected = checksum(algorithm, body)
        for parameters in {"ChecksumAlgorithm": algorithm}, {f"Checksum{algorithm}": expected}:
            answer = put(bucket, algorithm, body, **parameters)
            assert answer[f"Checksum{algorithm}"] == expected, (parameters, answer)
            for answer in head(bucket, algorithm, ChecksumMode="ENABLED"), get(bucket, algorithm, ChecksumMode="ENABLED"):
                assert answer[f"Checksum{algorithm}"] == expected, (parameters, answer)
                assert answer["ChecksumType"] == "FULL_OBJECT", answer
                assert "Body" not in answer or answer["Body"].read() == body


@holds
def a_wrong_checksum_stores_nothing(bucket):
    body, other = noise(200_000, 1), noise(200_000, 2)
    put(bucket, "old", b"old")
    wrongs = [{f"Checksum{algorithm}": checksum(algorithm, other)} for algorithm in CHECKSUMS]
    wrongs.append({"ContentMD5": b64(hashlib.md5(other).digest())})
    for wrong in wrongs:
        for key in "new", "old":
            with fails("BadDigest|XAmzContentChecksumMismatch", 400):
                put(bucket, key, body, **wrong)
        assert absent(bucket, "new"), wrong
        assert value(bucket, "old") == b"old", wrong
    put(bucket, "new", body, ContentMD5=b64(hashlib.md5(body).digest()))
    assert value(bucket, "new") == body


@holds
def a_checksum_that_is_none_is_refused(bucket):
    with fails("InvalidDigest", 400):
        put(bucket, "key", ContentMD5="not base64 of an MD5")
    with fails("InvalidRequest", 400):
        put(bucket, "key", ChecksumSHA256="AAAA")
    assert absent(bucket, "key")


@only(not OPEN)
def a_body_that_is_not_the_signed_one_stores_nothing(bucket):
    other = hashlib.sha256(b"other").hexdigest()
    with mock.patch.object(botocore.crt.auth.CrtS3SigV4Auth, "_get_existing_sha256", lambda *_: other):
        with fails("XAmzContentSHA256Mismatch", 400):
            put(bucket, "key", b"value")
    assert absent(bucket, "key")


@holds
def a_copy_keeps_the_checksum_or_gets_another(bucket):
    body = noise(10_000)
    put(bucket, "source", body, ChecksumAlgorithm="SHA1")
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/source")
    assert head(bucket, "copy", ChecksumMode="ENABLED")["ChecksumSHA1"] == checksum("SHA1", body)
    s3.copy_object(Bucket=bucket, Key="other", CopySource=f"{bucket}/source", ChecksumAlgorithm="SHA256")
    assert head(bucket, "other", ChecksumMode="ENABLED")["ChecksumSHA256"] == checksum("SHA256", body)


@holds
def deleting_many_by_a_wrong_checksum_deletes_none(bucket):
    put(bucket, "key")

    def spoil(request, **_):
        for name in [name for name in request.headers if name.lower().startswith("x-amz-checksum-")]:
            request.headers.replace_header(name, checksum("CRC32", b"other"))

    spoiled = client()
    spoiled.meta.events.register("before-sign.s3.DeleteObjects", spoil)
    with fails("BadDigest|XAmzContentChecksumMismatch", 400):
        spoiled.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "key"}]}, ChecksumAlgorithm="CRC32")
    assert keys(bucket) == ["key"]


# -- uploads in parts


class Upload:
    """An upload in parts, and what was sent for it."""

    def __init__(self, bucket, key, **parameters):
        self.name = {"Bucket": bucket, "Key": key}
        self.name["UploadId"] = s3.create_multipart_upload(**self.name, **parameters)["UploadId"]
        # whoever has not asked for checksums of the whole names none of its parts
        self.checksums = parameters.get("ChecksumAlgorithm")
        self.parts = {}

    def put(self, number, body, **parameters):
        answer = s3.upload_part(**self.name, PartNumber=number, Body=body, **parameters)
        self.parts[number] = {"PartNumber": number, "ETag": answer["ETag"]}
        if self.checksums:
            self.parts[number][f"Checksum{self.checksums}"] = answer[f"Checksum{self.checksums}"]
        return answer

    def copy(self, number, source, **parameters):
        answer = s3.upload_part_copy(**self.name, PartNumber=number, CopySource=source, **parameters)["CopyPartResult"]
        self.parts[number] = {"PartNumber": number, "ETag": answer["ETag"]}
        return answer

    def complete(self, parts=None, **parameters):
        parts = [self.parts[n] for n in sorted(self.parts)] if parts is None else parts
        return s3.complete_multipart_upload(**self.name, MultipartUpload={"Parts": parts}, **parameters)

    def abort(self):
        s3.abort_multipart_upload(**self.name)

    def listed(self, **parameters):
        return s3.list_parts(**self.name, **parameters).get("Parts", [])


@holds
def large_files_go_up_and_down_in_parts(bucket):
    body = noise(17 * MIB + 1)
    s3.upload_fileobj(io.BytesIO(body), bucket, "default", ExtraArgs={"ContentType": "text/plain", "Metadata": {"a": "b"}})
    answer = head(bucket, "default")
    assert answer["ContentLength"] == len(body)
    assert answer["ETag"] == etag_of_parts([body[: 8 * MIB], body[8 * MIB : 16 * MIB], body[16 * MIB :]])
    assert (answer["ContentType"], answer["Metadata"]) == ("text/plain", {"a": "b"})
    config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4)
    s3.upload_fileobj(io.BytesIO(body), bucket, "smaller", Config=config)
    for key in "default", "smaller":
        back = io.BytesIO()
        s3.download_fileobj(bucket, key, back, Config=config)
        assert back.getvalue() == body, key
    assert value(bucket, "default", Range=f"bytes={8 * MIB - 5}-{8 * MIB + 4}") == body[8 * MIB - 5 : 8 * MIB + 5]


@holds
def parts_may_come_in_any_order_and_again(bucket):
    bodies = {1: noise(PART, 1), 7: noise(PART + 1, 7), 10_000: b"the end"}
    upload = Upload(bucket, "key")
    upload.put(10_000, bodies[10_000])
    upload.put(7, b"to be replaced")
    upload.put(1, bodies[1])
    assert upload.put(7, bodies[7])["ETag"] == etag(bodies[7])
    assert absent(bucket, "key"), "it is no object before it is complete"
    assert keys(bucket) == []
    answer = upload.complete()
    assert answer["ETag"] == etag_of_parts(bodies.values())
    assert (answer["Bucket"], answer["Key"]) == (bucket, "key")
    assert answer["Location"].endswith("/key"), answer["Location"]
    assert value(bucket, "key") == b"".join(bodies.values())
    assert head(bucket, "key")["ETag"] == answer["ETag"]


@holds
def parts_that_are_not_named_at_the_end_are_left_out(bucket):
    upload = Upload(bucket, "key")
    for number in 1, 2, 3:
        upload.put(number, noise(PART, number))
    upload.complete([upload.parts[1], upload.parts[3]])
    assert value(bucket, "key") == noise(PART, 1) + noise(PART, 3)


@holds
def a_completed_upload_is_over(bucket):
    put(bucket, "key", b"old")
    upload = Upload(bucket, "key", ContentType="text/plain")
    upload.put(1, b"new")
    assert value(bucket, "key") == b"old"
    tag = upload.complete()["ETag"]
    answer = get(bucket, "key")
    assert (answer["Body"].read(), answer["ETag"], answer["ContentType"]) == (b"new", tag, "text/plain")
    with fails("NoSuchUpload", 404):
        upload.listed()
    with fails("NoSuchUpload", 404):
        upload.put(2, b"late")
    # a client that has not seen the answer asks again, and may be told the same
    with contextlib.suppress(s3.exceptions.NoSuchUpload):
        assert upload.complete([upload.parts[1]])["ETag"] == tag
    assert value(bucket, "key") == b"new"
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


@holds
def an_aborted_upload_is_over(bucket):
    upload = Upload(bucket, "key")
    upload.put(1, noise(PART))
    upload.abort()
    for attempt in upload.listed, upload.complete, lambda: upload.put(2, b"late"):
        with fails("NoSuchUpload", 404):
            attempt()
    # whether a second abort is told so differs between S3s
    with contextlib.suppress(s3.exceptions.NoSuchUpload):
        upload.abort()
    assert absent(bucket, "key")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


@holds
def an_upload_that_never_was_is_refused(bucket):
    upload = Upload(bucket, "key")
    upload.put(1, b"part")
    known = upload.name["UploadId"]
    for unknown in "none", known[:-1] + ("0" if known[-1] != "0" else "1"), known + "0", "../../etc", "é":
        upload.name["UploadId"] = unknown
        for attempt in upload.listed, upload.complete, upload.abort, lambda: upload.put(1, b"x"):
            with fails("NoSuchUpload", 404):
                attempt()
    upload.name["UploadId"] = known
    upload.name["Key"] = "another key"
    with fails("NoSuchUpload", 404):
        upload.complete()
    upload.name["Key"] = "key"
    upload.complete()


@holds
def small_parts_are_refused_and_the_upload_goes_on(bucket):
    upload = Upload(bucket, "key")
    upload.put(1, noise(PART - 1))
    upload.put(2, b"the end")
    with fails("EntityTooSmall", 400):
        upload.complete()
    assert absent(bucket, "key")
    upload.put(1, noise(PART))
    upload.complete()
    assert value(bucket, "key") == noise(PART) + b"the end"


@holds
def parts_must_be_named_as_they_are(bucket):
    put(bucket, "key", b"old")
    upload = Upload(bucket, "key")
    for number in 1, 2, 3:
        upload.put(number, noise(PART, number))
    first, second, third = (upload.parts[number] for number in (1, 2, 3))
    for code, parts in [
        ("InvalidPart", [first, {"PartNumber": 2, "ETag": first["ETag"]}]),
        ("InvalidPart", [first, {"PartNumber": 4, "ETag": first["ETag"]}]),
        ("InvalidPartOrder", [second, first]),
        ("InvalidPartOrder", [first, third, second]),
        ("InvalidPartOrder", [first, first]),
        ("MalformedXML|InvalidRequest", []),
    ]:
        with fails(code, 400):
            upload.complete(parts)
    assert value(bucket, "key") == b"old"
    unquoted = [{"PartNumber": n, "ETag": upload.parts[n]["ETag"].strip('"')} for n in (1, 2, 3)]
    upload.complete(unquoted)
    assert value(bucket, "key") == b"".join(noise(PART, number) for number in (1, 2, 3))


@holds
def parts_have_numbers_up_to_ten_thousand(bucket):
    upload = Upload(bucket, "key")
    for number in 0, 10_001, -1:
        with fails("InvalidArgument", 400):
            upload.put(number, b"part")
    upload.abort()


@holds
def parts_are_listed(bucket):
    upload = Upload(bucket, "key")
    assert upload.listed() == []
    sizes = {number: 10 + number for number in (1, 2, 3, 5, 8, 13, 21)}
    for number, size in sizes.items():
        upload.put(number, b"x" * size)
    listed = upload.listed()
    assert {part["PartNumber"]: part["Size"] for part in listed} == sizes
    assert [part["ETag"] for part in listed] == [etag(b"x" * size) for size in sizes.values()]
    assert all(abs(part["LastModified"] - now()) < HOUR for part in listed)
    paged = pages("list_parts", **upload.name, PaginationConfig={"PageSize": 3})
    assert [[part["PartNumber"] for part in page["Parts"]] for page in paged] == [[1, 2, 3], [5, 8, 13], [21]]
    answer = s3.list_parts(**upload.name, MaxParts=2, PartNumberMarker=2)
    assert [part["PartNumber"] for part in answer["Parts"]] == [3, 5]
    assert (answer["IsTruncated"], answer["NextPartNumberMarker"], answer["MaxParts"]) == (True, 5, 2)
    upload.abort()


@holds
def uploads_are_listed(bucket):
    names = ["a", "a", "b/1", "b/2", "c d+é", "e"]
    uploads = [Upload(bucket, name) for name in names]
    expected = sorted((upload.name["Key"], upload.name["UploadId"]) for upload in uploads)

    def listed(**parameters):
        answer = s3.list_multipart_uploads(Bucket=bucket, **parameters)
        return [(upload["Key"], upload["UploadId"]) for upload in answer.get("Uploads", [])]

    assert sorted(listed()) == expected
    assert [key for key, _ in listed()] == names
    for size in 1, 2, 4:
        paged = pages("list_multipart_uploads", Bucket=bucket, PaginationConfig={"PageSize": size})
        uploads_of_pages = [page.get("Uploads", []) for page in paged]
        assert all(len(page) <= size for page in uploads_of_pages)
        assert sorted((u["Key"], u["UploadId"]) for page in uploads_of_pages for u in page) == expected, size
    assert [key for key, _ in listed(Prefix="b/")] == ["b/1", "b/2"]
    assert [key for key, _ in listed(KeyMarker="b/1")] == ["b/2", "c d+é", "e"]
    answer = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [upload["Key"] for upload in answer["Uploads"]] == ["a", "a", "c d+é", "e"]
    assert answer["CommonPrefixes"] == [{"Prefix": "b/"}]
    for upload in uploads:
        upload.abort()
    assert listed() == []


@holds
def completing_may_be_conditional(bucket):
    put(bucket, "key", b"old")
    upload = Upload(bucket, "key")
    upload.put(1, b"new")
    for conditions in {"IfNoneMatch": "*"}, {"IfMatch": etag(b"other")}:
        with fails("PreconditionFailed", 412):
            upload.complete(**conditions)
        assert value(bucket, "key") == b"old"
    upload.complete(IfMatch=etag(b"old"))
    assert value(bucket, "key") == b"new"
    fresh = Upload(bucket, "fresh")
    fresh.put(1, b"x")
    with fails("NoSuchKey", 404):
        fresh.complete(IfMatch=etag(b"x"))
    fresh.complete(IfNoneMatch="*")
    assert value(bucket, "fresh") == b"x"


@holds
def a_wrong_size_of_the_whole_is_refused(bucket):
    upload = Upload(bucket, "key")
    upload.put(1, b"12345")
    with fails("InvalidRequest", 400):
        upload.complete(MpuObjectSize=6)
    assert absent(bucket, "key")
    upload.complete(MpuObjectSize=5)
    assert value(bucket, "key") == b"12345"


@holds
def an_upload_of_one_empty_part_is_an_empty_object(bucket):
    upload = Upload(bucket, "key")
    upload.put(1, b"")
    assert upload.complete()["ETag"] == etag_of_parts([b""])
    assert (value(bucket, "key"), head(bucket, "key")["ContentLength"]) == (b"", 0)


@holds
def parts_may_be_copied_from_objects(bucket):
    body = noise(11 * MIB)
    put(bucket, "source", body)
    upload = Upload(bucket, "key")
    source = f"{bucket}/source"
    assert upload.copy(1, source, CopySourceRange=f"bytes=1-{PART}")["ETag"] == etag(body[1 : PART + 1])
    upload.copy(2, {"Bucket": bucket, "Key": "source"}, CopySourceIfMatch=etag(body))
    upload.put(3, b"the end")
    with fails("PreconditionFailed", 412):
        upload.copy(4, source, CopySourceIfNoneMatch=etag(body))
    with fails("InvalidRange|InvalidArgument|InvalidRequest"):
        upload.copy(4, source, CopySourceRange=f"bytes=0-{11 * MIB}")
    with fails("NoSuchKey", 404):
        upload.copy(4, f"{bucket}/none")
    upload.complete()
    assert value(bucket, "key") == body[1 : PART + 1] + body + b"the end"


@holds
def a_part_with_a_wrong_checksum_is_refused(bucket):
    upload = Upload(bucket, "key", ChecksumAlgorithm="SHA256")
    upload.put(1, noise(PART, 1), ChecksumAlgorithm="SHA256")
    for wrong in (
        {"ChecksumSHA256": checksum("SHA256", b"other")},
        {"ChecksumAlgorithm": "SHA256", "ContentMD5": b64(hashlib.md5(b"other").digest())},
    ):
        with fails("BadDigest|XAmzContentChecksumMismatch", 400):
            upload.put(2, b"part", **wrong)
    assert [part["PartNumber"] for part in upload.listed()] == [1]
    upload.put(2, b"part", ChecksumAlgorithm="SHA256")
    upload.complete()
    assert value(bucket, "key") == noise(PART, 1) + b"part"


@holds
def uploads_have_checksums_of_the_whole_or_of_their_parts(bucket):
    bodies = [noise(PART, 1), noise(PART, 2), b"the end"]
    kinds = [(algorithm, "COMPOSITE") for algorithm in ("CRC32", "CRC32C", "SHA1", "SHA256")]
    kinds += [(algorithm, "FULL_OBJECT") for algorithm in ("CRC32", "CRC32C", "CRC64NVME")]
    for algorithm, kind in kinds:
        upload = Upload(bucket, "key", ChecksumAlgorithm=algorithm, ChecksumType=kind)
        for number, body in enumerate(bodies, 1):
            answer = upload.put(number, body, ChecksumAlgorithm=algorithm)
            assert answer[f"Checksum{algorithm}"] == checksum(algorithm, body), (algorithm, kind)
        if kind == "FULL_OBJECT":
            expected = checksum(algorithm, b"".join(bodies))
            with fails("BadDigest|InvalidPart|InvalidRequest|XAmzContentChecksumMismatch", 400):
                upload.complete(ChecksumType=kind, **{f"Checksum{algorithm}": checksum(algorithm, b"other")})
            answer = upload.complete(ChecksumType=kind, **{f"Checksum{algorithm}": expected})
        else:
            expected = checksum(algorithm, b"".join(map(CHECKSUMS[algorithm], bodies))) + "-3"
            wrong = upload.parts[1] | {f"Checksum{algorithm}": checksum(algorithm, b"other")}
            with fails("BadDigest|InvalidPart", 400):
                upload.complete([wrong, upload.parts[2], upload.parts[3]])
            answer = upload.complete()
        assert answer[f"Checksum{algorithm}"] == expected, (algorithm, kind, answer)
        answer = head(bucket, "key", ChecksumMode="ENABLED")
        assert (answer[f"Checksum{algorithm}"], answer["ChecksumType"]) == (expected, kind), answer
        assert value(bucket, "key", ChecksumMode="ENABLED") == b"".join(bodies)


@holds
def checksums_that_cannot_be_made_of_parts_are_refused(bucket):
    for algorithm, kind in [("CRC64NVME", "COMPOSITE"), ("SHA1", "FULL_OBJECT"), ("SHA256", "FULL_OBJECT")]:
        with fails("InvalidRequest", 400):
            Upload(bucket, "key", ChecksumAlgorithm=algorithm, ChecksumType=kind)


@holds
def parts_of_several_uploads_to_a_key_stay_apart(bucket):
    first, second = Upload(bucket, "key"), Upload(bucket, "key")
    assert first.name["UploadId"] != second.name["UploadId"]
    first.put(1, b"first")
    second.put(1, b"second")
    second.complete()
    assert value(bucket, "key") == b"second"
    first.complete()
    assert value(bucket, "key") == b"first"


# -- lists


def fill(bucket, names):
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: put(bucket, key, b"x"), names))


@holds
def a_list_says_what_the_objects_say(bucket):
    bodies = {f"key {n}": noise(n * 1000, n) for n in range(5)}
    for key, body in bodies.items():
        put(bucket, key, body)
    for answer in s3.list_objects(Bucket=bucket), s3.list_objects_v2(Bucket=bucket, FetchOwner=True):
        assert (answer["Name"], answer["Prefix"], answer["MaxKeys"], answer["IsTruncated"]) == (bucket, "", 1000, False)
        assert [entry["Key"] for entry in answer["Contents"]] == list(bodies)
        for entry in answer["Contents"]:
            assert entry["ETag"] == etag(bodies[entry["Key"]])
            assert entry["Size"] == len(bodies[entry["Key"]])
            assert entry["StorageClass"] == "STANDARD"
            assert "Owner" in entry
            known = head(bucket, entry["Key"])["LastModified"]
            assert abs(entry["LastModified"] - known) < datetime.timedelta(seconds=1), (entry, known)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 5


@holds
def a_list_of_nothing_is_empty(bucket):
    for answer in s3.list_objects(Bucket=bucket), s3.list_objects_v2(Bucket=bucket, Delimiter="/"):
        assert "Contents" not in answer and "CommonPrefixes" not in answer
        assert answer["IsTruncated"] is False
    put(bucket, "key")
    for parameters in {"Prefix": "l"}, {"Prefix": "key/"}, {"StartAfter": "key"}, {"MaxKeys": 0}:
        answer = s3.list_objects_v2(Bucket=bucket, **parameters)
        assert "Contents" not in answer and answer["KeyCount"] == 0, answer
        assert answer["IsTruncated"] is False, answer


@holds
def folders_are_listed_as_such(bucket):
    fill(bucket, ["a", "b/1", "b/2", "b/c/3", "b/c/4", "d//5", "e/"])
    for prefix, delimiter, contents, prefixes in [
        ("", "/", ["a"], ["b/", "d/", "e/"]),
        ("b/", "/", ["b/1", "b/2"], ["b/c/"]),
        ("b", "/", [], ["b/"]),
        ("b/c/", "/", ["b/c/3", "b/c/4"], []),
        ("d/", "/", [], ["d//"]),
        ("e/", "/", ["e/"], []),
        ("", "//", ["a", "b/1", "b/2", "b/c/3", "b/c/4", "e/"], ["d//"]),
        ("b/", "c", ["b/1", "b/2"], ["b/c"]),
        ("", "zz", ["a", "b/1", "b/2", "b/c/3", "b/c/4", "d//5", "e/"], []),
    ]:
        for answer in (
            s3.list_objects(Bucket=bucket, Prefix=prefix, Delimiter=delimiter),
            s3.list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter=delimiter),
            s3.list_object_versions(Bucket=bucket, Prefix=prefix, Delimiter=delimiter),
        ):
            got = [entry["Key"] for entry in answer.get("Contents", answer.get("Versions", []))]
            assert got == contents, (prefix, delimiter, got)
            got = [entry["Prefix"] for entry in answer.get("CommonPrefixes", [])]
            assert got == prefixes, (prefix, delimiter, got)
            assert (answer["Prefix"], answer["Delimiter"]) == (prefix, delimiter)


@holds
def a_list_starts_where_it_is_told(bucket):
    fill(bucket, ["a", "b/1", "b/2", "c", "d"])

    def v2(**parameters):
        answer = s3.list_objects_v2(Bucket=bucket, **parameters)
        return [e["Key"] for e in answer.get("Contents", [])], [e["Prefix"] for e in answer.get("CommonPrefixes", [])]

    assert v2(StartAfter="a") == (["b/1", "b/2", "c", "d"], [])
    assert v2(StartAfter="b") == (["b/1", "b/2", "c", "d"], [])
    assert v2(StartAfter="b/1", Prefix="b/") == (["b/2"], [])
    assert v2(StartAfter="b/1", Delimiter="/") == (["c", "d"], ["b/"])
    assert v2(StartAfter="z", Prefix="b/") == ([], [])
    assert v2(StartAfter="A", Prefix="b/") == (["b/1", "b/2"], [])
    answer = s3.list_objects(Bucket=bucket, Marker="b/2")
    assert ([entry["Key"] for entry in answer["Contents"]], answer["Marker"]) == (["c", "d"], "b/2")
    answer = s3.list_objects(Bucket=bucket, Delimiter="/", MaxKeys=2)
    assert [entry["Key"] for entry in answer["Contents"]] == ["a"]
    assert (answer["IsTruncated"], answer["NextMarker"]) == (True, "b/"), answer
    answer = s3.list_objects(Bucket=bucket, Delimiter="/", Marker="b/")
    assert [entry["Key"] for entry in answer["Contents"]] == ["c", "d"]
    assert "CommonPrefixes" not in answer


def model(names, prefix, delimiter):
    """What a list has to be, as (key or common prefix) in order."""
    entries = []
    for name in sorted(names, key=str.encode):
        if name.startswith(prefix):
            _, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (0, "", 0)
            common = name[: name.index(delimiter, len(prefix)) + len(delimiter)] if found else None
            entry = ("prefix", common) if common else ("key", name)
            if entry not in entries[-1:]:
                entries.append(entry)
    return entries


@holds
def lists_page_through_everything_once(bucket):
    rng = random.Random(5)
    names = {"".join(rng.choice(["a", "b", "/", "-", "é", "c/"]) for _ in range(rng.randint(1, 9))) for _ in range(260)}
    fill(bucket, names)
    operations = ["list_objects", "list_objects_v2", "list_object_versions"]
    for turn in range(60):
        prefix = rng.choice(["", "", "a", "a/", "c/", "b-", "é", "/", "zz"])
        delimiter = rng.choice(["", "/", "/", "-", "c/", "b"])
        size = rng.choice([1, 2, 3, 7, 50]) if turn % 10 == 0 else rng.choice([7, 20, 50, 1000])
        operation = operations[turn % 3]
        asked = {"Prefix": prefix, "Delimiter": delimiter}
        got = []
        for page in pages(operation, Bucket=bucket, PaginationConfig={"PageSize": size}, **asked):
            entries = [("key", entry["Key"]) for entry in page.get("Contents", page.get("Versions", []))]
            entries += [("prefix", entry["Prefix"]) for entry in page.get("CommonPrefixes", [])]
            assert len(entries) <= size, (operation, asked, size)
            assert entries or not page["IsTruncated"], "a page of nothing, and more to come"
            assert operation != "list_objects_v2" or page["KeyCount"] == len(entries)
            got += sorted(entries, key=lambda entry: entry[1].encode())
        assert got == model(names, prefix, delimiter), (operation, asked, size)


@holds
def a_page_has_a_thousand_at_most(bucket):
    names = [f"{n:04}" for n in range(1001)]
    fill(bucket, names)
    answer = s3.list_objects_v2(Bucket=bucket, MaxKeys=5000)
    assert (len(answer["Contents"]), answer["IsTruncated"], answer["KeyCount"]) == (1000, True, 1000)
    answer = s3.list_objects_v2(Bucket=bucket, ContinuationToken=answer["NextContinuationToken"])
    assert [entry["Key"] for entry in answer["Contents"]] == ["1000"]
    answer = s3.list_objects_v2(Bucket=bucket, MaxKeys=1001 - 1, StartAfter="0000")
    assert (len(answer["Contents"]), answer["IsTruncated"]) == (1000, False)


@holds
def a_token_that_was_never_given_is_refused(bucket):
    with fails("InvalidArgument", 400):
        s3.list_objects_v2(Bucket=bucket, ContinuationToken="not a token of ours")
    with fails("InvalidArgument", 400):
        s3.list_objects_v2(Bucket=bucket, MaxKeys=-1)


@holds
def lists_of_versions_show_the_only_one(bucket):
    put(bucket, "key", b"old")
    put(bucket, "key", b"value")
    answer = s3.list_object_versions(Bucket=bucket)
    (version,) = answer["Versions"]
    assert (version["Key"], version["VersionId"], version["IsLatest"]) == ("key", "null", True)
    assert (version["ETag"], version["Size"]) == (etag(b"value"), 5)
    assert "DeleteMarkers" not in answer
    assert value(bucket, "key", VersionId="null") == b"value"
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "key", "VersionId": "null"}]})
    assert absent(bucket, "key")


@holds
def whoever_asks_for_no_encoding_gets_none(bucket):
    put(bucket, "a b/é+")
    # boto3 asks for encoded keys and decodes them; here it is told what to ask
    answer = s3.list_objects_v2(Bucket=bucket, EncodingType="url")
    assert answer["EncodingType"] == "url"
    assert urllib.parse.unquote(answer["Contents"][0]["Key"].replace("+", " ")) == "a b/é+"
    url = s3.generate_presigned_url("list_objects_v2", Params={"Bucket": bucket})
    url = re.sub("&?encoding-type=url", "", url) if OPEN else url
    body = fetch(url)[2].decode()
    assert "<Key>a b/é+</Key>" in body or "encoding-type" in url, body


# -- buckets


@contextlib.contextmanager
def other_bucket(bucket):
    other = f"{bucket}-other"
    s3.create_bucket(Bucket=other)
    yield other
    purge(other)


@holds
def buckets_come_and_go(bucket):
    with other_bucket(bucket) as other:
        listed = s3.list_buckets()
        created = {entry["Name"]: entry["CreationDate"] for entry in listed["Buckets"]}
        assert {bucket, other} <= created.keys(), created
        assert abs(created[other] - now()) < HOUR
        assert s3.head_bucket(Bucket=other)["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert s3.get_bucket_location(Bucket=other)["LocationConstraint"] in (None, "us-east-1")
        put(other, "key")
        with fails("BucketNotEmpty", 409):
            s3.delete_bucket(Bucket=other)
        assert value(other, "key") == b"value"
    assert other not in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]


@holds
def a_bucket_may_be_created_again_by_its_owner(bucket):
    put(bucket, "key")
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=bucket)
    assert keys(bucket) == ["key"]


@only(os.environ.get("S3_BUCKETS") == "strict")
def a_bucket_that_was_not_created_is_none(bucket):
    none = f"{bucket}-none"
    for attempt in [
        lambda: put(none, "key"),
        lambda: get(none, "key"),
        lambda: s3.list_objects_v2(Bucket=none),
        lambda: s3.list_multipart_uploads(Bucket=none),
        lambda: s3.get_bucket_location(Bucket=none),
        lambda: s3.delete_bucket(Bucket=none),
        lambda: Upload(none, "key"),
        lambda: s3.delete_objects(Bucket=none, Delete={"Objects": [{"Key": "key"}]}),
        lambda: s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{none}/key"),
    ]:
        with fails("NoSuchBucket", 404):
            attempt()
    with fails("404", 404):
        s3.head_bucket(Bucket=none)
    with fails("404", 404):
        s3.head_object(Bucket=none, Key="key")


@holds
def a_bucket_begins_where_another_ends(bucket):
    with other_bucket(bucket) as other:
        put(other, "key")
        assert keys(bucket) == [], "a name that begins like another is another bucket"
        assert keys(bucket, Prefix="-other") == []


@holds
def a_bucket_without_versions_says_so(bucket):
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)


# -- presigned


# the old one is what boto3 takes for a URL where nobody says otherwise
VERSIONS = ["s3", "s3v4"]


def presigned(version, method, seconds=3600, **parameters):
    return client(Config(signature_version=version)).generate_presigned_url(method, Params=parameters, ExpiresIn=seconds)


@holds
def whoever_has_a_url_may_do_what_it_is_for(bucket):
    for signed in s3, client(Config(signature_version="s3v4")):
        url = signed.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "a key+é"})
        status, headers, _ = fetch(url, "PUT", b"from afar")
        assert (status, headers["ETag"]) == (200, etag(b"from afar"))
        url = signed.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a key+é"})
        assert fetch(url)[::2] == (200, b"from afar")
        assert fetch(url, headers={"Range": "bytes=5-"})[::2] == (206, b"afar")
        url = signed.generate_presigned_url("head_object", Params={"Bucket": bucket, "Key": "a key+é"})
        status, headers, _ = fetch(url, "HEAD")
        assert (status, headers["Content-Length"]) == (200, "9")
        url = signed.generate_presigned_url("delete_object", Params={"Bucket": bucket, "Key": "a key+é"})
        assert fetch(url, "DELETE")[0] == 204
        assert absent(bucket, "a key+é")
    put(bucket, "a key")
    url = presigned("s3v4", "list_objects_v2", Bucket=bucket, Prefix="a ")
    assert b"<KeyCount>1</KeyCount>" in fetch(url)[2]


@holds
def a_url_may_ask_for_other_headers(bucket):
    put(bucket, "key")
    for version in VERSIONS:
        disposition = 'attachment; filename="a b.txt"'
        parameters = {"ResponseContentDisposition": disposition, "ResponseContentType": "text/x"}
        _, headers, _ = fetch(presigned(version, "get_object", Bucket=bucket, Key="key", **parameters))
        assert (headers["Content-Disposition"], headers["Content-Type"]) == (disposition, "text/x"), version


@holds
def a_url_may_fix_the_type_and_the_metadata(bucket):
    url = presigned("s3v4", "put_object", Bucket=bucket, Key="key", ContentType="text/x", Metadata={"a": "b"})
    if not OPEN:
        assert fetch(url, "PUT", b"value", {"Content-Type": "text/y", "x-amz-meta-a": "b"})[0] == 403
        assert absent(bucket, "key")
    assert fetch(url, "PUT", b"value", {"Content-Type": "text/x", "x-amz-meta-a": "b"})[0] == 200
    answer = head(bucket, "key")
    assert (answer["ContentType"], answer["Metadata"]) == ("text/x", {"a": "b"})


@holds
def parts_may_be_put_by_url(bucket):
    upload = Upload(bucket, "key")
    url = presigned("s3v4", "upload_part", PartNumber=1, **upload.name)
    status, headers, _ = fetch(url, "PUT", b"part")
    assert status == 200
    upload.complete([{"PartNumber": 1, "ETag": headers["ETag"]}])
    assert value(bucket, "key") == b"part"


def refuses(status, code, answer):
    """That the answer to a plain request is this refusal."""
    got, _, body = answer
    found = re.search("<Code>(.*?)</Code>", body.decode())
    assert (got, found and found[1]) == (status, code), f"{status} {code} expected, got {got}: {body.decode()}"


@only(not OPEN)
def a_url_expires(bucket):
    put(bucket, "key", b"old")
    with at(now() - HOUR):
        url = presigned("s3v4", "get_object", 60, Bucket=bucket, Key="key")
        late = presigned("s3v4", "put_object", 60, Bucket=bucket, Key="key")
        good = presigned("s3v4", "get_object", 7200, Bucket=bucket, Key="key")
    refuses(403, "AccessDenied", fetch(url))
    refuses(403, "AccessDenied", fetch(late, "PUT", b"new"))
    assert fetch(good)[::2] == (200, b"old")
    with mock.patch("time.time", lambda: now().timestamp() - 3600):
        url = presigned("s3", "get_object", 60, Bucket=bucket, Key="key")
    refuses(403, "AccessDenied", fetch(url))
    for seconds in 0, -5, 8 * 24 * 3600:
        url = presigned("s3v4", "get_object", 60, Bucket=bucket, Key="key").replace("Expires=60", f"Expires={seconds}")
        assert fetch(url)[0] in (400, 403), seconds


@only(not OPEN)
def a_url_is_good_for_what_it_was_made_for_alone(bucket):
    put(bucket, "key")
    put(bucket, "other")
    for version in VERSIONS:
        url = presigned(version, "get_object", Bucket=bucket, Key="key")
        assert fetch(url)[0] == 200
        for wrong in [
            fetch(url.replace("/key", "/other")),
            fetch(url, "PUT", b"new"),
            fetch(url, "DELETE"),
            fetch(f"{url}&response-content-type=text/html"),
            fetch(re.sub("Signature=....", "Signature=0000", url)),
        ]:
            refuses(403, "SignatureDoesNotMatch", wrong)
        assert fetch(re.sub("Signature=[^&]*", "Signature=", url))[0] in (400, 403), version
        assert fetch(re.sub("&?(X-Amz-)?Signature=[^&]*", "", url))[0] in (400, 403), version
    assert value(bucket, "key") == b"value"


# -- who may do what


@only(OPEN)
def on_an_open_master_any_key_will_do(bucket):
    other = client(aws_access_key_id="ANYBODY", aws_secret_access_key="whatever it is", aws_session_token="a token")
    other.put_object(Bucket=bucket, Key="key", Body=b"value")
    assert other.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    nobody = anonymous()
    assert nobody.get_object(Bucket=bucket, Key="key")["Body"].read() == b"value"
    nobody.put_object(Bucket=bucket, Key="nobody's", Body=b"too")
    assert value(bucket, "nobody's") == b"too"
    assert nobody.list_objects_v2(Bucket=bucket)["KeyCount"] == 2
    nobody.upload_fileobj(io.BytesIO(noise(9 * MIB)), bucket, "large")
    assert value(bucket, "large") == noise(9 * MIB)


@only(not OPEN)
def a_wrong_secret_or_an_unknown_key_is_refused(bucket):
    put(bucket, "key")
    access = os.environ["AWS_ACCESS_KEY_ID"]
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    for code, parameters in [
        ("SignatureDoesNotMatch", (access, "not the secret")),
        ("SignatureDoesNotMatch", (access, secret[:-1])),
        ("InvalidAccessKeyId", ("AKIANOBODY0000000000", secret)),
        ("InvalidAccessKeyId", (access.lower(), secret)),
    ]:
        wrong = client(aws_access_key_id=parameters[0], aws_secret_access_key=parameters[1])
        for attempt in [
            lambda: wrong.get_object(Bucket=bucket, Key="key"),
            lambda: wrong.put_object(Bucket=bucket, Key="key", Body=b"new"),
            lambda: wrong.delete_object(Bucket=bucket, Key="key"),
            lambda: wrong.list_objects_v2(Bucket=bucket),
            lambda: wrong.list_buckets(),
            lambda: wrong.create_multipart_upload(Bucket=bucket, Key="key"),
        ]:
            with fails(code, 403):
                attempt()
    assert value(bucket, "key") == b"value"


@only(not OPEN)
def a_key_for_reading_reads_and_no_more(bucket):
    put(bucket, "key")
    upload = Upload(bucket, "upload")
    reader = with_key("S3_READER")
    assert reader.get_object(Bucket=bucket, Key="key")["Body"].read() == b"value"
    assert reader.head_object(Bucket=bucket, Key="key")["ContentLength"] == 5
    assert reader.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    for attempt in [
        lambda: reader.put_object(Bucket=bucket, Key="key", Body=b"new"),
        lambda: reader.delete_object(Bucket=bucket, Key="key"),
        lambda: reader.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/key"),
        lambda: reader.create_multipart_upload(Bucket=bucket, Key="key"),
        lambda: reader.upload_part(**upload.name, PartNumber=1, Body=b"part"),
        lambda: reader.upload_part_copy(**upload.name, PartNumber=1, CopySource=f"{bucket}/key"),
        lambda: reader.complete_multipart_upload(**upload.name, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": '"x"'}]}),
        lambda: reader.abort_multipart_upload(**upload.name),
        lambda: reader.create_bucket(Bucket=f"{bucket}-new"),
        lambda: reader.delete_bucket(Bucket=bucket),
    ]:
        with fails("AccessDenied", 403):
            attempt()
    try:
        errors = reader.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "key"}]})["Errors"]
        assert [(error["Key"], error["Code"]) for error in errors] == [("key", "AccessDenied")]
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDenied", error
    assert value(bucket, "key") == b"value"
    assert keys(bucket) == ["key"]
    upload.put(1, b"still there")
    upload.complete()


@only(not OPEN)
def a_key_for_a_bucket_knows_no_other(bucket):
    put(bucket, "key")
    writer = with_key("S3_WRITER")
    s3.create_bucket(Bucket="writers")
    writer.put_object(Bucket="writers", Key="key", Body=b"mine")
    assert writer.get_object(Bucket="writers", Key="key")["Body"].read() == b"mine"
    for attempt in [
        lambda: writer.get_object(Bucket=bucket, Key="key"),
        lambda: writer.get_object(Bucket="writers-not", Key="key"),
        lambda: writer.put_object(Bucket=bucket, Key="key", Body=b"new"),
        lambda: writer.delete_object(Bucket=bucket, Key="key"),
        lambda: writer.list_objects_v2(Bucket=bucket),
        lambda: writer.copy_object(Bucket="writers", Key="stolen", CopySource=f"{bucket}/key"),
        lambda: writer.copy_object(Bucket=bucket, Key="key", CopySource="writers/key"),
    ]:
        with fails("AccessDenied", 403):
            attempt()
    upload = writer.create_multipart_upload(Bucket="writers", Key="upload")["UploadId"]
    with fails("AccessDenied", 403):
        writer.upload_part_copy(Bucket="writers", Key="upload", UploadId=upload, PartNumber=1, CopySource=f"{bucket}/key")
    assert value(bucket, "key") == b"value"
    purge("writers")


@only(not OPEN)
def nobody_reads_what_is_public_and_nothing_else(bucket):
    s3.create_bucket(Bucket="public")
    put("public", "key", b"for all")
    put(bucket, "key", b"not for all")
    nobody = anonymous()
    assert nobody.get_object(Bucket="public", Key="key")["Body"].read() == b"for all"
    assert nobody.head_object(Bucket="public", Key="key")["ContentLength"] == 7
    assert follow(f"{ENDPOINT}/public/key")[2] == b"for all", "and without any S3, by its address"
    for attempt in [
        lambda: nobody.get_object(Bucket=bucket, Key="key"),
        lambda: nobody.put_object(Bucket="public", Key="key", Body=b"new"),
        lambda: nobody.delete_object(Bucket="public", Key="key"),
        lambda: nobody.create_multipart_upload(Bucket="public", Key="key"),
        lambda: nobody.delete_bucket(Bucket="public"),
        lambda: nobody.list_objects_v2(Bucket=bucket),
        lambda: nobody.list_buckets(),
    ]:
        with fails("AccessDenied", 403):
            attempt()
    assert value("public", "key") == b"for all"
    for method, body in ("GET", None), ("HEAD", None), ("PUT", b"new"), ("DELETE", None):
        assert fetch(f"{ENDPOINT}/{bucket}/key", method, body)[0] in (401, 403), "the native API is no way around it"
    assert value(bucket, "key") == b"not for all"
    purge("public")


@only(not OPEN)
def clocks_must_not_differ_by_much(bucket):
    put(bucket, "key")
    for skew in -HOUR, HOUR:
        with at(now() + skew):
            with fails("RequestTimeTooSkewed", 403):
                get(bucket, "key")
            with fails("RequestTimeTooSkewed", 403):
                put(bucket, "key", b"new")
    with at(now() - HOUR / 12):
        assert value(bucket, "key") == b"value"


# -- the native API


@only(OPEN)
def both_apis_name_the_same_objects(bucket):
    put(bucket, "a folder/key", b"by S3")
    url = f"{ENDPOINT}/{bucket}/a%20folder"
    assert follow(f"{url}/key")[::2] == (200, b"by S3")
    assert fetch(f"{url}/key", "PUT", b"again")[0] == 403, "values are immutable in the native API"
    assert fetch(f"{url}/native", "PUT", b"by HTTP")[0] == 201
    answer = get(bucket, "a folder/native")
    assert (answer["Body"].read(), answer["ETag"]) == (b"by HTTP", etag(b"by HTTP"))
    assert keys(bucket) == ["a folder/key", "a folder/native"]
    listed = json.loads(fetch(f"{ENDPOINT}/{bucket}/?list")[2])["keys"]
    assert [urllib.parse.unquote(key) for key in listed] == [f"/{bucket}/a folder/key", f"/{bucket}/a folder/native"], listed
    assert fetch(f"{url}/key", "DELETE")[0] == 204
    assert absent(bucket, "a folder/key")
    s3.delete_object(Bucket=bucket, Key="a folder/native")
    assert fetch(f"{url}/native")[0] == 404


# -- what is not there


def unsupported(bucket):
    """Calls that must not seem to have done something."""
    b = {"Bucket": bucket}
    o = b | {"Key": "key"}
    grant = {"GrantRead": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'}
    rules = {"Rules": [{"ID": "1", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]}
    encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    until = now() + HOUR
    replication = {
        "Role": "arn:aws:iam::1:role/r",
        "Rules": [{"Status": "Enabled", "Prefix": "", "Destination": {"Bucket": "arn:aws:s3:::other"}}],
    }
    return [
        ("put_bucket_versioning", b | {"VersioningConfiguration": {"Status": "Enabled"}}),
        ("put_object_acl", o | grant),
        ("put_bucket_acl", b | grant),
        ("put_bucket_policy", b | {"Policy": "{}"}),
        ("put_bucket_lifecycle_configuration", b | {"LifecycleConfiguration": rules}),
        ("put_bucket_encryption", b | {"ServerSideEncryptionConfiguration": encryption}),
        ("put_bucket_cors", b | {"CORSConfiguration": {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]}}),
        ("put_bucket_website", b | {"WebsiteConfiguration": {"IndexDocument": {"Suffix": "index.html"}}}),
        ("put_bucket_logging", b | {"BucketLoggingStatus": {}}),
        ("put_bucket_notification_configuration", b | {"NotificationConfiguration": {}}),
        ("put_bucket_replication", b | {"ReplicationConfiguration": replication}),
        ("put_bucket_tagging", b | {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}),
        ("put_bucket_request_payment", b | {"RequestPaymentConfiguration": {"Payer": "Requester"}}),
        ("put_bucket_accelerate_configuration", b | {"AccelerateConfiguration": {"Status": "Enabled"}}),
        ("put_bucket_ownership_controls", b | {"OwnershipControls": {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}}),
        ("put_public_access_block", b | {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True}}),
        ("put_object_lock_configuration", b | {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}),
        ("put_object_retention", o | {"Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": until}}),
        ("put_object_legal_hold", o | {"LegalHold": {"Status": "ON"}}),
        ("put_object_tagging", o | {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}),
        ("restore_object", o | {"RestoreRequest": {"Days": 1}}),
        ("put_object", o | {"Body": b"new", "ServerSideEncryption": "aws:kms"}),
        ("put_object", o | {"Body": b"new", "ServerSideEncryption": "AES256"}),
        ("put_object", o | {"Body": b"new", "ObjectLockLegalHoldStatus": "ON"}),
        ("put_object", o | {"Body": b"new", "ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}),
        ("put_object", o | {"Body": b"new", "Tagging": "a=b"}),
        ("put_object", o | {"Body": b"new"} | grant),
        ("create_multipart_upload", o | {"ServerSideEncryption": "aws:kms"}),
    ]


@holds
def what_is_not_supported_says_so_and_does_nothing(bucket):
    put(bucket, "key")
    wrong = []
    for operation, parameters in unsupported(bucket):
        try:
            getattr(s3, operation)(**parameters)
            wrong.append(f"{operation} {parameters} was done")
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if (error.response["Error"]["Code"], status) != ("NotImplemented", 501):
                wrong.append(str(error))
    assert not wrong, "\n".join(wrong)
    assert value(bucket, "key") == b"value"
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


# -- how they are run


def purge(bucket):
    for page in pages("list_multipart_uploads", Bucket=bucket):
        for upload in page.get("Uploads", []):
            s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in pages("list_objects_v2", Bucket=bucket):
        if objects := [{"Key": entry["Key"]} for entry in page.get("Contents", [])]:
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
            assert "Errors" not in answer, answer
    s3.delete_bucket(Bucket=bucket)


numbers = itertools.count(1)
made = []


def fresh_bucket(_):
    """Each scenario has a bucket of its own."""
    made.append(f"bucket-{next(numbers)}")
    s3.create_bucket(Bucket=made[-1])
    return made[-1]


@holds
def all_of_it_can_be_purged(_):
    for bucket in made:
        purge(bucket)
    assert s3.list_buckets()["Buckets"] == []


if __name__ == "__main__":
    run(fresh_bucket)
