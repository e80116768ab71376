#!/usr/bin/env python3
"""Apache Arrow's own S3 client, which is C++: streams, files, and Parquet over them."""

import random
import urllib.parse

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs
from scenarios import ENDPOINT, OPEN, holds, noise, run

MIB = 1 << 20
BUCKET = "arrow"

endpoint = urllib.parse.urlsplit(ENDPOINT)
where = {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme, "region": "us-east-1"}
# without keys the client frames its uploads all the same
s3 = fs.S3FileSystem(**where, allow_bucket_creation=True, allow_bucket_deletion=True, anonymous=OPEN)


def write(path, body, **parameters):
    with s3.open_output_stream(path, **parameters) as stream:
        stream.write(body)


def read(path):
    with s3.open_input_stream(path) as stream:
        return stream.read()


def names(path, recursive=False):
    return sorted(info.path for info in s3.get_file_info(fs.FileSelector(path, recursive=recursive)))


@holds
def a_bucket_is_a_directory():
    s3.create_dir(BUCKET)
    assert s3.get_file_info(BUCKET).type == fs.FileType.Directory
    assert names(BUCKET) == []


@holds
def a_stream_of_any_size_comes_back():
    for size in 0, 1, 64 << 10, 5 * MIB, 10 * MIB + 1, 23 * MIB:
        body = noise(size, size)
        path = f"{BUCKET}/streams/{size}"
        write(path, body)
        assert s3.get_file_info(path).size == size
        assert read(path) == body, size


@holds
def a_stream_written_in_small_pieces_comes_back():
    body = noise(12 * MIB)
    with s3.open_output_stream(f"{BUCKET}/streams/pieces", buffer_size=0) as stream:
        for start in range(0, len(body), 77_777):
            stream.write(body[start : start + 77_777])
    assert read(f"{BUCKET}/streams/pieces") == body


@holds
def a_file_is_read_at_any_place():
    body = noise(9 * MIB)
    write(f"{BUCKET}/file", body)
    rng = random.Random(1)
    with s3.open_input_file(f"{BUCKET}/file") as file:
        assert file.size() == len(body)
        for _ in range(60):
            start, length = rng.randrange(len(body)), rng.choice([1, 100, 70_000, MIB])
            assert file.read_at(length, start) == body[start : start + length], (start, length)
        file.seek(len(body) - 3)
        assert file.read() == body[-3:]
        assert file.read() == b""


@holds
def metadata_comes_back():
    write(f"{BUCKET}/with metadata", b"value", metadata={"Content-Type": "text/x", "Cache-Control": "no-cache", "color": "green"})
    with s3.open_input_stream(f"{BUCKET}/with metadata") as stream:
        metadata = stream.metadata()
    assert metadata["Content-Type"] == b"text/x", metadata
    assert metadata["Cache-Control"] == b"no-cache", metadata
    assert metadata["Content-Length"] == b"5"
    assert metadata["ETag"].strip(b'"')


@holds
def files_are_found():
    for name in "a", "b/1", "b/2", "b/c/3", "with spaces + and ü/日本":
        write(f"{BUCKET}/tree/{name}", name.encode())
    top = f"{BUCKET}/tree"
    assert names(top) == [f"{top}/{name}" for name in ("a", "b", "with spaces + and ü")]
    assert names(f"{top}/b") == [f"{top}/b/{name}" for name in ("1", "2", "c")]
    below = names(top, recursive=True)
    assert f"{top}/b/c/3" in below and f"{top}/with spaces + and ü/日本" in below, below
    kinds = [info.type for info in s3.get_file_info([f"{top}/a", f"{top}/b", f"{top}/none"])]
    assert kinds == [fs.FileType.File, fs.FileType.Directory, fs.FileType.NotFound]
    assert read(f"{top}/with spaces + and ü/日本") == "with spaces + and ü/日本".encode()
    info = s3.get_file_info(f"{top}/a")
    assert (info.size, info.base_name) == (1, "a")
    assert info.mtime is not None


@holds
def files_are_copied_moved_and_deleted():
    body = noise(MIB)
    write(f"{BUCKET}/one", body)
    s3.copy_file(f"{BUCKET}/one", f"{BUCKET}/two ü")
    assert read(f"{BUCKET}/two ü") == body
    s3.move(f"{BUCKET}/two ü", f"{BUCKET}/three")
    assert s3.get_file_info(f"{BUCKET}/two ü").type == fs.FileType.NotFound
    assert read(f"{BUCKET}/three") == body
    for name in "one", "three":
        s3.delete_file(f"{BUCKET}/{name}")
        assert s3.get_file_info(f"{BUCKET}/{name}").type == fs.FileType.NotFound
    try:
        s3.open_input_file(f"{BUCKET}/one")
        raise AssertionError("it is read, and was deleted")
    except FileNotFoundError:
        pass


@holds
def empty_directories_exist():
    s3.create_dir(f"{BUCKET}/empty/deep", recursive=True)
    assert s3.get_file_info(f"{BUCKET}/empty/deep").type == fs.FileType.Directory
    assert names(f"{BUCKET}/empty") == [f"{BUCKET}/empty/deep"]
    s3.delete_dir(f"{BUCKET}/empty/deep")
    assert s3.get_file_info(f"{BUCKET}/empty/deep").type == fs.FileType.NotFound


@holds
def two_million_rows_of_parquet_come_back():
    rows = 2_000_000
    rng = random.Random(2)
    words = pa.array([f"word {n}" for n in range(1000)])
    table = pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "number": pa.array(memoryview(rng.randbytes(8 * rows)).cast("q")),
            "word": words.take(pa.array([n * n % 1000 for n in range(rows)], pa.int32())),
        }
    )
    path = f"{BUCKET}/table.parquet"
    pq.write_table(table, path, filesystem=s3, row_group_size=250_000)
    assert pq.read_table(path, filesystem=s3).equals(table)
    assert pq.read_table(path, filesystem=s3, columns=["word"]).equals(table.select(["word"]))
    file = pq.ParquetFile(path, filesystem=s3)
    assert (file.num_row_groups, file.metadata.num_rows) == (8, rows)
    assert file.read_row_group(3, columns=["id", "number"]).equals(table.slice(750_000, 250_000).select(["id", "number"]))
    chosen = pq.read_table(path, filesystem=s3, filters=[("id", ">=", 1_999_990)])
    assert chosen.equals(table.slice(1_999_990))


@holds
def a_partitioned_dataset_comes_back():
    table = pa.table({"n": list(range(10_000)), "part": [f"p{n % 20}" for n in range(10_000)]})
    ds.write_dataset(table, f"{BUCKET}/dataset", filesystem=s3, format="parquet", partitioning=["part"], partitioning_flavor="hive")
    back = ds.dataset(f"{BUCKET}/dataset", filesystem=s3, format="parquet", partitioning="hive")
    assert back.count_rows() == 10_000
    assert back.to_table().sort_by("n")["n"].equals(table["n"])
    assert back.to_table(filter=pc.field("part") == "p7")["n"].combine_chunks().sort()[0].as_py() == 7
    # written again, the old files go first
    ds.write_dataset(
        table.slice(0, 100),
        f"{BUCKET}/dataset",
        filesystem=s3,
        format="parquet",
        partitioning=["part"],
        partitioning_flavor="hive",
        existing_data_behavior="delete_matching",
    )
    assert ds.dataset(f"{BUCKET}/dataset", filesystem=s3, format="parquet", partitioning="hive").count_rows() == 100


@holds
def a_directory_is_deleted_with_all_that_is_in_it():
    for n in range(120):
        write(f"{BUCKET}/many/{n % 5}/{n}", b"x")
    write(f"{BUCKET}/many-not", b"stays")
    s3.delete_dir(f"{BUCKET}/many")
    assert s3.get_file_info(f"{BUCKET}/many").type == fs.FileType.NotFound
    assert read(f"{BUCKET}/many-not") == b"stays"


@holds
def all_of_it_can_be_purged():
    s3.delete_dir_contents(BUCKET)
    assert names(BUCKET) == []
    s3.delete_dir(BUCKET)


if __name__ == "__main__":
    run()
