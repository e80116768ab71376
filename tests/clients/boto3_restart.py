#!/usr/bin/env python3
"""An upload in parts that begins with one master and is completed with the next.

    boto3_restart.py begin|finish
"""

import sys

import boto3
from scenarios import noise

PART = 5 << 20
BUCKET, KEY = "restarts", "key"

s3 = boto3.client("s3")


def begin():
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"old")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=KEY, Metadata={"a": "b"})["UploadId"]
    s3.upload_part(Bucket=BUCKET, Key=KEY, UploadId=upload, PartNumber=1, Body=noise(PART, 1))


def finish():
    (upload,) = s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    assert upload["Key"] == KEY
    name = {"Bucket": BUCKET, "Key": KEY, "UploadId": upload["UploadId"]}
    (first,) = s3.list_parts(**name)["Parts"]
    assert (first["PartNumber"], first["Size"]) == (1, PART)
    second = s3.upload_part(**name, PartNumber=2, Body=b"the end")
    assert s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == b"old"
    parts = [{"PartNumber": 1, "ETag": first["ETag"]}, {"PartNumber": 2, "ETag": second["ETag"]}]
    s3.complete_multipart_upload(**name, MultipartUpload={"Parts": parts})
    answer = s3.get_object(Bucket=BUCKET, Key=KEY)
    assert answer["Body"].read() == noise(PART, 1) + b"the end"
    assert answer["Metadata"] == {"a": "b"}
    s3.delete_object(Bucket=BUCKET, Key=KEY)
    s3.delete_bucket(Bucket=BUCKET)


{"begin": begin, "finish": finish}[sys.argv[1]]()
