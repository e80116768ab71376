#!/usr/bin/env node
// The SDK for JavaScript, on Node.js: its streams come framed, with checksums behind them.
"use strict";

const assert = require("node:assert/strict");
const { createHash } = require("node:crypto");
const { Readable } = require("node:stream");
const {
  CopyObjectCommand,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  S3Client,
  paginateListObjectsV2,
} = require("@aws-sdk/client-s3");
const { Upload } = require("@aws-sdk/lib-storage");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");

const MIB = 1 << 20;
const Bucket = "javascript";
const key = "a folder/grün + 50%";

// an answer that should not have been given shall not be hidden by a retry
const s3 = new S3Client({ forcePathStyle: true, maxAttempts: 1 });

/** Bytes that don't compress, the same for the same seed. */
function noise(size, seed = 0) {
  const blocks = Array.from({ length: Math.ceil(size / 32) }, (_, n) =>
    createHash("sha256").update(`${seed} ${n}`).digest(),
  );
  return Buffer.concat(blocks).subarray(0, size);
}

function put(Key, Body, parameters) {
  return s3.send(new PutObjectCommand({ Bucket, Key, Body, ...parameters }));
}

async function holds(Key, body, parameters) {
  const answer = await s3.send(new GetObjectCommand({ Bucket, Key, ...parameters }));
  assert.ok(body.equals(await answer.Body.transformToByteArray()), Key);
  return answer;
}

/** A stream of a buffer, in pieces of an odd size. */
function stream(body) {
  const pieces = Array.from({ length: Math.ceil(body.length / 77_777) }, (_, n) =>
    body.subarray(n * 77_777, (n + 1) * 77_777),
  );
  return Readable.from(pieces);
}

const scenarios = {
  async a_bucket_is_made() {
    await s3.send(new CreateBucketCommand({ Bucket }));
  },

  async an_object_is_what_was_put() {
    const body = noise(300_000);
    const { ETag } = await put(key, body, { ContentType: "text/x", Metadata: { color: "green" } });
    assert.equal(ETag, `"${createHash("md5").update(body).digest("hex")}"`);
    const answer = await holds(key, body);
    assert.equal(answer.ContentType, "text/x");
    assert.deepEqual(answer.Metadata, { color: "green" });
    await holds(key, body.subarray(5, 10), { Range: "bytes=5-9" });
  },

  async streams_are_stored_without_their_frames_and_with_each_checksum() {
    const body = noise(300_000, 1);
    for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]) {
      const parameters = { ContentLength: body.length, ChecksumAlgorithm };
      const sum = `Checksum${ChecksumAlgorithm}`;
      const answer = await put(ChecksumAlgorithm, stream(body), parameters);
      assert.ok(answer[sum], ChecksumAlgorithm);
      const got = await holds(ChecksumAlgorithm, body, { ChecksumMode: "ENABLED" });
      assert.equal(got[sum], answer[sum]);
    }
  },

  async large_streams_go_in_parts() {
    const body = noise(17 * MIB, 2);
    await new Upload({ client: s3, params: { Bucket, Key: "large", Body: stream(body) }, partSize: 5 * MIB }).done();
    const { ETag } = await holds("large", body);
    assert.match(ETag, /-4"$/);
  },

  async an_aborted_upload_leaves_nothing() {
    async function* endless() {
      for (;;) yield noise(MIB);
    }
    const upload = new Upload({ client: s3, params: { Bucket, Key: "aborted", Body: Readable.from(endless()) } });
    upload.once("httpUploadProgress", () => upload.abort());
    await assert.rejects(upload.done(), { name: "AbortError" });
    await assert.rejects(s3.send(new HeadObjectCommand({ Bucket, Key: "aborted" })), { name: "NotFound" });
  },

  async whoever_has_a_url_may_do_what_it_is_for() {
    const expiresIn = 60;
    const parameters = { Bucket, Key: `${key}, given` };
    const body = noise(1000, 3);
    const to = await getSignedUrl(s3, new PutObjectCommand(parameters), { expiresIn });
    const answer = await fetch(to, { method: "PUT", body });
    assert.equal(answer.status, 200, await answer.text());
    const from = await getSignedUrl(s3, new GetObjectCommand(parameters), { expiresIn });
    assert.ok(body.equals(Buffer.from(await (await fetch(from)).arrayBuffer())));
    assert.equal((await fetch(from.replace("given", "other"))).status, 403);
  },

  async objects_are_copied() {
    const CopySource = encodeURIComponent(`${Bucket}/${key}`);
    await s3.send(new CopyObjectCommand({ Bucket, Key: "copy", CopySource }));
    const { Metadata } = await holds("copy", noise(300_000));
    assert.deepEqual(Metadata, { color: "green" });
  },

  async refusals_are_told_by_their_names() {
    await assert.rejects(holds("none", Buffer.alloc(0)), { name: "NoSuchKey" });
    await assert.rejects(put("copy", "new", { IfNoneMatch: "*" }), { name: "PreconditionFailed" });
    await assert.rejects(put("wrong", "body", { ChecksumCRC32: "AAAAAA==" }), { name: "BadDigest" });
  },

  async all_of_it_can_be_purged() {
    const keys = [];
    for await (const page of paginateListObjectsV2({ client: s3, pageSize: 2 }, { Bucket })) {
      keys.push(...page.Contents.map(({ Key }) => ({ Key })));
    }
    assert.equal(keys.length, 9);
    assert.ok(keys.some(({ Key }) => Key === key));
    const { Deleted } = await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: keys } }));
    assert.equal(Deleted.length, 9);
    await s3.send(new DeleteBucketCommand({ Bucket }));
  },
};

async function run() {
  for (const [name, scenario] of Object.entries(scenarios)) {
    await scenario();
    console.log(`ok  ${name}`);
  }
}

run().catch((error) => {
  console.error(error);
  process.exit(1);
});
