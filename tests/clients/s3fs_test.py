#!/usr/bin/env python3
"""s3fs, the S3 of fsspec, and so of pandas, dask and the like."""

import os
import tempfile
import urllib.request

import fsspec
import s3fs
from scenarios import holds, noise, run

MIB = 1 << 20
BUCKET = "fsspec"

# the endpoint and the keys are in the environment
fs = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)


def at(name):
    return f"{BUCKET}/{name}"


@holds
def a_bucket_is_made():
    fs.mkdir(BUCKET)
    assert fs.exists(BUCKET) and fs.isdir(BUCKET)
    assert BUCKET in fs.ls("")
    assert fs.ls(BUCKET) == []


@holds
def files_of_any_size_come_back():
    for size in 0, 1, 4 * MIB, 5 * MIB, 11 * MIB + 1:
        body = noise(size, size)
        fs.pipe_file(at("piped"), body)
        assert fs.cat_file(at("piped")) == body, size
        with fs.open(at("written"), "wb", block_size=5 * MIB) as file:
            for start in range(0, size, MIB):
                file.write(body[start : start + MIB])
        assert fs.size(at("written")) == size
        assert fs.cat_file(at("written")) == body, size


@holds
def a_file_is_read_at_any_place():
    body = noise(7 * MIB)
    fs.pipe_file(at("file"), body)
    with fs.open(at("file"), "rb", block_size=MIB) as file:
        for start, length in (0, 10), (6 * MIB, 2 * MIB), (3 * MIB - 5, 10), (7 * MIB - 1, 5):
            file.seek(start)
            assert file.read(length) == body[start : start + length], start
        file.seek(-4, 2)
        assert file.read() == body[-4:]
    assert fs.cat_file(at("file"), start=5, end=-5) == body[5:-5]
    assert fs.head(at("file"), 9) == body[:9]
    assert fs.tail(at("file"), 9) == body[-9:]
    assert fs.cat_ranges([at("file")] * 2, [0, 100], [10, 200]) == [body[:10], body[100:200]]


@holds
def text_is_written_line_by_line():
    with fsspec.open(f"s3://{at('text.txt')}", "w", encoding="utf-8") as file:
        file.writelines(f"Zeile {n}: grün\n" for n in range(1000))
    with fsspec.open(f"s3://{at('text.txt')}", "r", encoding="utf-8") as file:
        assert sum(line == f"Zeile {n}: grün\n" for n, line in enumerate(file)) == 1000
    with fsspec.open(f"s3://{at('text.txt.gz')}", "wt", compression="gzip") as file:
        file.write("packed")
    with fsspec.open(f"s3://{at('text.txt.gz')}", "rt", compression="gzip") as file:
        assert file.read() == "packed"


@holds
def a_file_may_be_appended_to():
    # a small one is read and written again, a large one is copied as a part
    for size in 10, 6 * MIB:
        body = noise(size)
        fs.pipe_file(at("log"), body)
        with fs.open(at("log"), "ab") as file:
            file.write(b"and more")
        assert fs.cat_file(at("log")) == body + b"and more", size


@holds
def a_file_may_be_created_only_if_it_is_new():
    fs.pipe_file(at("new"), b"first", mode="create")
    try:
        fs.pipe_file(at("new"), b"second", mode="create")
        raise AssertionError("it was overwritten")
    except FileExistsError:
        pass
    assert fs.cat_file(at("new")) == b"first"
    with fs.open(at("newer"), "xb") as file:
        file.write(noise(6 * MIB))
    try:
        with fs.open(at("newer"), "xb") as file:
            file.write(noise(6 * MIB, 1))
        raise AssertionError("it was overwritten")
    except FileExistsError:
        pass
    assert fs.cat_file(at("newer")) == noise(6 * MIB)


TREE = ["a.txt", "b/1.txt", "b/2.csv", "b/c/3.txt", "with spaces + and ü/日本.txt"]


@holds
def files_are_listed_found_and_globbed():
    fs.pipe({at(f"tree/{name}"): name.encode() for name in TREE})
    top = at("tree")
    assert sorted(fs.ls(top)) == sorted(f"{top}/{name}" for name in ("a.txt", "b", "with spaces + and ü"))
    kinds = {entry["name"]: (entry["type"], entry["size"]) for entry in fs.ls(top, detail=True)}
    assert kinds[f"{top}/a.txt"] == ("file", 5) and kinds[f"{top}/b"][0] == "directory", kinds
    assert fs.find(top) == sorted(f"{top}/{name}" for name in TREE)
    assert fs.find(top, prefix="b") == [f"{top}/b/{name}" for name in ("1.txt", "2.csv", "c/3.txt")]
    assert fs.glob(f"{top}/**/*.txt") == sorted(f"{top}/{name}" for name in TREE if name.endswith("txt"))
    assert fs.glob(f"{top}/b/?.csv") == [f"{top}/b/2.csv"]
    assert [(path, files) for path, _, files in fs.walk(f"{top}/b")] == [(f"{top}/b", ["1.txt", "2.csv"]), (f"{top}/b/c", ["3.txt"])]
    assert fs.du(top) == sum(len(name.encode()) for name in TREE)
    assert fs.cat(fs.find(top)) == {f"{top}/{name}": name.encode() for name in TREE}


@holds
def what_is_there_exists_and_nothing_else():
    fs.touch(at("touched"))
    assert fs.info(at("touched"))["size"] == 0
    fs.pipe_file(at("touched"), b"not empty")
    fs.touch(at("touched"), truncate=True)
    assert fs.cat_file(at("touched")) == b""
    for name, exists, directory in [("touched", True, False), ("tree/b", True, True), ("tree", True, True), ("none", False, False), ("touche", False, False)]:
        assert (fs.exists(at(name)), fs.isdir(at(name)), fs.isfile(at(name))) == (exists, directory, exists and not directory), name
    for attempt in fs.info, fs.cat_file, fs.open, fs.size:
        try:
            attempt(at("none"))
            raise AssertionError(f"{attempt} of nothing")
        except FileNotFoundError:
            pass
    assert not fs.exists("no-such-bucket/key")


@holds
def a_cached_listing_is_forgotten_on_demand():
    caching = s3fs.S3FileSystem(skip_instance_cache=True)
    top = at("cached")
    caching.pipe_file(f"{top}/1", b"x")
    assert caching.ls(top) == [f"{top}/1"]
    fs.pipe_file(f"{top}/2", b"x")
    assert caching.ls(top) == [f"{top}/1"], "no request, no news"
    caching.invalidate_cache()
    assert caching.ls(top) == [f"{top}/1", f"{top}/2"]


@holds
def metadata_and_types_are_kept():
    fs.pipe_file(at("described"), b"value", Metadata={"color": "green"}, ContentType="text/x")
    assert fs.metadata(at("described")) == {"color": "green"}
    assert fs.info(at("described"))["ContentType"] == "text/x"
    fs.setxattr(at("described"), copy_kwargs={"ContentType": "text/y"}, size="L")
    assert fs.getxattr(at("described"), "size") == "L"
    assert fs.cat_file(at("described")) == b"value"


@holds
def files_are_copied_moved_and_removed():
    body = noise(6 * MIB)
    fs.pipe_file(at("one"), body)
    fs.cp_file(at("one"), at("two ü"))
    assert fs.cat_file(at("two ü")) == body
    fs.mv(at("two ü"), at("three"))
    assert not fs.exists(at("two ü"))
    assert fs.cat_file(at("three")) == body
    assert fs.checksum(at("one")) is not None
    fs.copy(at("tree"), at("tree copy"), recursive=True)
    assert fs.find(at("tree copy")) == sorted(at(f"tree copy/{name}") for name in TREE)
    fs.rm(at("tree copy"), recursive=True)
    assert fs.find(at("tree copy")) == []
    assert len(fs.find(at("tree"))) == len(TREE)


@holds
def large_files_are_copied_in_parts():
    body = noise(12 * MIB)
    fs.pipe_file(at("large"), body)
    fs.cp_file(at("large"), at("large copy"))
    assert fs.cat_file(at("large copy")) == body
    fs.merge(at("merged"), [at("large"), at("large copy")])
    assert fs.cat_file(at("merged")) == body + body


@holds
def a_written_file_is_there_when_it_is_committed():
    with fs.transaction:
        with fs.open(at("later"), "wb") as file:
            file.write(noise(6 * MIB))
        assert not fs.exists(at("later"))
    assert fs.cat_file(at("later")) == noise(6 * MIB)
    try:
        with fs.transaction:
            with fs.open(at("never"), "wb") as file:
                file.write(noise(6 * MIB))
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert not fs.exists(at("never"))
    assert fs.list_multipart_uploads(BUCKET) == []


@holds
def files_go_up_and_down():
    with tempfile.TemporaryDirectory() as directory:
        for name in TREE:
            os.makedirs(os.path.dirname(f"{directory}/up/{name}"), exist_ok=True)
            with open(f"{directory}/up/{name}", "wb") as file:
                file.write(noise(MIB, len(name)))
        fs.put(f"{directory}/up", at("uploaded"), recursive=True)
        fs.get(at("uploaded"), f"{directory}/down", recursive=True)
        for name in TREE:
            with open(f"{directory}/down/{name}", "rb") as file:
                assert file.read() == noise(MIB, len(name)), name


@holds
def a_url_may_be_given_away():
    fs.pipe_file(at("a url"), b"value")
    with urllib.request.urlopen(fs.sign(at("a url"), expiration=100)) as answer:
        assert answer.read() == b"value"


@holds
def all_of_it_can_be_purged():
    fs.rm(BUCKET, recursive=True)
    assert not fs.exists(BUCKET)


if __name__ == "__main__":
    run()
