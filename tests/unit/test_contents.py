"""What a layer holds, as its tar says: honest tars to the byte, hostile ones refused, and no tar read twice or whole."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import random
import tarfile
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import tars
from hypothesis import given, settings
from hypothesis import strategies as st

from buildorch.contents import Entry, LayerContents, Package, headers, read, stream, tar
from buildorch.errors import MalformedDocument, RegistryError

SPARSE = json.loads((Path(__file__).parent / "data" / "sparse_tars.json").read_text())
"""What GNU tar 1.34 wrote of files with holes, in each of its formats; compressed."""
HOLES = b"".join(bytes([run + 1]) * 4096 + bytes(4096) for run in range(30)) + bytes(777)
KINDS = {b"0": "file", b"1": "hardlink", b"2": "symlink", b"3": "other", b"4": "other", b"5": "folder", b"6": "other"}


def layer(*members: bytes) -> LayerContents:
    return read(tars.in_pieces(b"".join(members) + tars.END))


def only(*members: bytes) -> Entry:
    [entry] = layer(*members).entries
    return entry


def refused(*members: bytes, end: bytes = tars.END) -> str:
    with pytest.raises(MalformedDocument) as caught:
        read(tars.in_pieces(b"".join(members) + end))
    return str(caught.value)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_header_of_bytes_that_are_no_ascii_has_a_larger_sum():
    high = (b"\xff" * 99).decode(errors="surrogateescape")
    info = tarfile.TarInfo(f"{high}/{high}")
    info.type, info.linkname = tarfile.SYMTYPE, high
    header = info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")
    assert sum(header) > 65521

    [entry] = read(iter([header + tars.END])).entries

    assert (entry.path, entry.target) == (info.name, high)


def test_a_file_is_its_path_size_mode_owner_and_digest():
    found = layer(tars.member("usr/bin/tool", b"content", mode=0o104755, uid=10, gid=20))

    assert found.entries == (
        Entry(
            "usr/bin/tool", "file", size=7, mode=0o4755, uid=10, gid=20, digest=sha256(b"content"), stored_bytes=1024
        ),
    )
    assert (found.users, found.packages) == (None, ())


def test_every_kind_of_entry_is_told_apart():
    found = layer(
        tars.folder("d"),
        tars.symlink("s", "../else/where"),
        tars.hardlink("h", "/d/f"),
        *(tars.member("o", kind=kind) for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)),
        tars.member("c", b"contiguous", kind=tarfile.CONTTYPE),
        tars.patched(tars.member("old/"), 156, b"\0"),
    )

    assert [(entry.kind, entry.target) for entry in found.entries] == [
        ("folder", ""),
        ("symlink", "../else/where"),
        ("hardlink", "/d/f"),
        *3 * [("other", "")],
        ("file", ""),
        ("folder", ""),
    ]


def test_what_has_no_content_has_no_data_either_whatever_its_header_says():
    size = b"00000001000\0"
    linked = tars.patched(tars.hardlink("h", "d"), 124, size)
    made = tars.patched(tars.folder("d"), 124, size)

    found = layer(made, linked, tars.member("next"))

    assert [(entry.path, entry.size) for entry in found.entries] == [("d", 0), ("h", 0), ("next", 0)]


@pytest.mark.parametrize("name", ["./a/b", "/a/b", "a//b", "./a/./b", "a/x/../b", "//a/b/."])
def test_a_path_is_taken_below_the_root_as_container_runtimes_do(name: str):
    assert only(tars.member(name)).path == "a/b"


def test_the_root_itself_is_a_folder_without_a_name():
    assert only(tars.folder("./")).path == ""
    assert refused(tars.member("./")) == "malformed layer: its root is not a folder"


@pytest.mark.parametrize(
    "made",
    [
        tars.member(""),
        tars.member("../b"),
        tars.member("a/../../b"),
        tars.member("/../b"),
        tars.hardlink("h", "../../etc/shadow"),
        tars.hardlink("h", ""),
        tars.symlink("s", ""),
        tars.extended((b"path", b"a\0b")) + tars.member("a"),
        tars.extended((b"linkpath", b"a\0b")) + tars.symlink("s", "a"),
        tars.member("a" * 4097),
        tars.symlink("s", "a" * 4097),
    ],
)
def test_a_path_that_is_none_or_leads_out_of_the_root_is_refused(made: bytes):
    assert refused(tars.member("before"), made).startswith("malformed layer: the path '")


def test_a_symbolic_link_may_lead_anywhere_since_it_is_followed_in_the_root():
    assert only(tars.symlink("s", "../../etc")).target == "../../etc"


def test_a_message_shows_a_path_without_its_control_characters_and_not_all_of_it():
    message = refused(tars.member("\x1b[2J\u202e\udcff/" + "a" * 5000))

    assert r"'\x1b[2J\u202e\udcff/aaa" in message
    assert message.isprintable()
    assert len(message) < 250


def test_bytes_that_are_no_utf_8_are_kept_in_paths_and_targets():
    entry = only(tars.symlink("\udcff\udce9", "é\udc80"))

    assert entry.path.encode(errors="surrogateescape") == b"\xff\xe9"
    assert entry.target.encode(errors="surrogateescape") == b"\xc3\xa9\x80"


def test_whiteouts_are_what_they_take_away():
    found = layer(
        tars.member("a/.wh.gone", mode=0o600, uid=5),
        tars.member(".wh.top"),
        tars.member("a/.wh..wh..opq"),
        tars.member(".wh..wh..opq"),
        tars.folder("a/.wh.folder"),
        tars.member("a/.white"),
    )

    assert [(entry.kind, entry.path) for entry in found.entries] == [
        ("whiteout", "a/gone"),
        ("whiteout", "top"),
        ("opaque", "a"),
        ("opaque", ""),
        ("whiteout", "a/folder"),
        ("file", "a/.white"),
    ]
    assert found.entries[0] == Entry("a/gone", "whiteout", stored_bytes=512)


def test_what_aufs_keeps_for_itself_is_passed_over_where_runtimes_do_and_nothing_hides_behind_its_name():
    found = layer(
        tars.folder(".wh..wh.plnk"),
        tars.member(".wh..wh.plnk/1.2", b"passed over"),
        tars.member("a/.wh..wh.aufs"),
        tars.member("a/.wh..wh.plnk/key", b"written there by every runtime"),
        tars.member("a/.wh.b/c"),
    )

    assert [(entry.kind, entry.path) for entry in found.entries] == [
        ("file", "a/.wh..wh.plnk/key"),
        ("file", "a/.wh.b/c"),
    ]


@pytest.mark.parametrize("name", [".wh.", "a/.wh..", "a/.wh..."])
def test_a_whiteout_of_no_name_is_refused(name: str):
    assert refused(tars.member(name)) == f"malformed layer: the path {name!r} is a whiteout of no name"


def test_of_two_entries_of_one_path_both_are_kept_in_order():
    found = layer(tars.member("a", b"1"), tars.member("a", b"22"))

    assert [entry.size for entry in found.entries] == [1, 2]


@pytest.mark.parametrize(
    "begin",
    [
        b"-----BEGIN PRIVATE KEY-----\n",
        b"-----BEGIN RSA PRIVATE KEY-----\r\n",
        b"-----BEGIN EC PRIVATE KEY-----\n",
        b"-----BEGIN DSA PRIVATE KEY-----\n",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
        b"\xef\xbb\xbf-----BEGIN PRIVATE KEY-----\n",
        b"Bag Attributes\n    localKeyID: 01\nKey Attributes: <No Attributes>\n-----BEGIN PRIVATE KEY-----\n",
        b"-----BEGIN EC PARAMETERS-----\nBggq\n-----END EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\n",
        b"PuTTY-User-Key-File-3: ssh-ed25519\n",
    ],
)
def test_a_private_key_is_known_by_how_it_begins_wherever_a_piece_ends(begin: bytes):
    data = tars.member("key", begin + b"MIIE" * 2000) + tars.END

    for size in (13, 1 << 20):
        [entry] = read(tars.in_pieces(data, size)).entries
        assert entry.is_private_key


@pytest.mark.parametrize(
    "content",
    [
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----BEGIN PUBLIC KEY-----\n",
        b"if text.startswith('-----BEGIN PRIVATE KEY-----'):",
        b"a PuTTY-User-Key-File-3",
        bytes(4096) + b"\n-----BEGIN PRIVATE KEY-----\n",
        b"",
    ],
)
def test_what_only_speaks_of_keys_is_none(content: bytes):
    found = layer(tars.member("text", content), tars.member("etc/passwd", content))

    assert not any(entry.is_private_key for entry in found.entries)


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_formats_of_tar_are_read_as_tarfile_reads_them(format_: int):
    draw = random.Random(format_)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=format_, encoding="utf-8", errors="surrogateescape") as archive:
        for _ in range(150):
            info = tarfile.TarInfo("/".join("aé\udcff z"[draw.randrange(5)] * draw.randrange(1, 50) for _ in range(4)))
            info.type, info.mode = draw.choice([*KINDS]), draw.randrange(0o10000)
            info.uid, info.gid = draw.choice([0, 2097151]), draw.choice([7, 2097151 << (format_ != 0)])
            info.mtime = 1.5 if format_ == tarfile.PAX_FORMAT else 1
            info.linkname = "t" * draw.choice([1, 99, 100, 101, 300]) if info.type in b"12" else ""
            info.size = draw.choice([0, 1, 511, 512, 513, 5000]) if info.type == b"0" else 0
            if format_ != tarfile.USTAR_FORMAT or len(info.linkname) <= 100:
                with_content = io.BytesIO(draw.randbytes(info.size))
                try:
                    archive.addfile(info, with_content)
                except ValueError:
                    assert format_ == tarfile.USTAR_FORMAT

    found = read(tars.in_pieces(data.getvalue(), 1000))

    assert found.unpacked_bytes == len(data.getvalue())
    assert [
        (entry.path, entry.kind, entry.size, entry.mode, entry.uid, entry.gid, entry.target, entry.digest)
        for entry in found.entries
    ] == [
        (
            *(one.name, KINDS[one.type], one.size, one.mode, one.uid, one.gid, one.linkname),
            sha256(content) if one.isreg() else "",
        )
        for one, content in tars.by_tarfile(data.getvalue())
    ]


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("size", [1 << 20, 99])
def test_a_sparse_file_is_its_logical_content(name: str, size: int):
    data = zlib.decompress(base64.b64decode(SPARSE[name]))
    contents = {"holes": HOLES, "tail": b"abc" + bytes(99_997), "nothing": bytes(200_000), "whole": b"whole"}

    found = read(tars.in_pieces(data, size))

    assert [(entry.path, entry.size, entry.digest) for entry in found.entries] == [
        (path, len(content), sha256(content)) for path, content in contents.items()
    ]
    assert found.unpacked_bytes == len(data)


@pytest.mark.parametrize("told", [b"0,4,2,4", b"0,4,4", b"0,9", b"-1,4", b"0,-4", b"4,4,0,4", b"0,x", b"0,3"])
def test_a_sparse_map_that_does_not_fit_its_file_is_refused(told: bytes):
    size = (b"GNU.sparse.size", b"8")

    assert "sparse" in (said := refused(tars.extended((b"GNU.sparse.map", told), size), tars.member("a", b"data"))) or (
        "number" in said
    )
    assert only(tars.extended((b"GNU.sparse.map", b"2,4"), size), tars.member("a", b"data")).digest == sha256(
        b"\0\0data\0\0"
    )


def test_a_hole_counts_as_what_it_unpacks_to(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tar, "MAX_UNPACKED", 1000)
    hole = tars.extended((b"GNU.sparse.map", b"0,0"), (b"GNU.sparse.size", b"600")) + tars.member("hole")

    assert only(hole).size == 600
    assert "more than 1000 B" in refused(hole, hole)


def test_an_extended_header_says_more_than_the_header_behind_it():
    told = tars.extended((b"path", b"long/name"), (b"size", b"3"), (b"uid", b"3000000"), (b"gid", b"4"))

    entry = only(told, tars.patched(tars.member("short", b"abc", uid=1, gid=2), 124, b"00000000000\0"))

    assert (entry.path, entry.size, entry.uid, entry.gid) == ("long/name", 3, 3_000_000, 4)


def test_a_global_header_changes_nothing_as_in_container_runtimes():
    told = tars.extended((b"path", b"hidden"), (b"size", b"0"), (b"uid", b"0"), kind=b"g")

    found = layer(told, tars.member("a", b"1", uid=9), tars.member("b"))

    assert [(entry.path, entry.size, entry.uid) for entry in found.entries] == [("a", 1, 9), ("b", 0, 0)]


def test_an_owner_below_zero_is_who_the_kernel_takes_it_for():
    entry = only(tars.member("a", uid=-2, gid=2**40 + 7))

    assert (entry.uid, entry.gid) == (0xFFFFFFFE, 7)


def test_a_prefix_is_a_part_of_the_path_in_the_formats_that_have_one():
    posix = tars.patched(tars.patched(tars.member("name"), 257, b"ustar\x0000"), 345, b"long/folder")
    star = tars.patched(tars.patched(posix, 345 + 131, b"01234567 "), 508, b"tar\0")
    old_go = tars.patched(tars.member("name"), 345, b"long/folder")
    times = tars.patched(tars.member("name"), 345, b"15042304000\x0015042304000\0")

    assert [entry.path for entry in layer(posix, star, old_go, times).entries] == [
        *3 * ["long/folder/name"],
        "name",
    ]


@pytest.mark.parametrize("end", [b"", tars.END[:512], tars.END, tars.END + b"anything", tars.END + tars.member("b")])
def test_an_archive_ends_with_its_two_blocks_of_zeros_or_without_them_and_all_its_bytes_count(end: bytes):
    data = tars.member("a", b"abc") + end

    found = read(tars.in_pieces(data, 100))

    assert [entry.path for entry in found.entries] == ["a"]
    assert found.unpacked_bytes == len(data)


@pytest.mark.parametrize("data", [b"", tars.END[:512], tars.END])
def test_an_empty_layer_holds_nothing(data: bytes):
    assert read(iter([data])) == LayerContents(len(data), ())


def test_nothing_hides_behind_a_single_block_of_zeros():
    assert "goes on behind its end" in refused(tars.member("a"), tars.END[:512], tars.member("b"))


def test_an_archive_that_is_cut_off_is_never_a_short_listing():
    members = [
        tars.member("a", b"abc"),
        tars.member("long" * 40, b"x" * 600),
        tars.extended((b"path", b"p")),
        tars.member("z"),
    ]
    data = b"".join(members)
    whole_at = {0, *range(515, 1025), *range(3160, 3585), len(data)}  # between two entries, or in the last padding

    for length in sorted({*range(0, len(data), 19), *whole_at, 514, 1025, 3159, 3585, len(data) - 1}):
        cut = tars.in_pieces(data[:length])
        if length in whole_at:
            read(cut)
        else:
            with pytest.raises(MalformedDocument):
                read(cut)


def test_a_broken_header_in_the_middle_is_an_error_and_not_the_end():
    data = tars.member("a") + tars.member("b") + tars.member("c") + tars.END

    for at in (512, 512 + 100, 512 + 150, 1023):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(MalformedDocument, match=r"checksum|number"):
            read(tars.in_pieces(bytes(broken)))


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (b"-0000000001\0", "a number"),
        (b"1_0\0", "a number"),
        (b"0o17\0", "a number"),
        (b"99999999999\0", "a number"),
        (b"\x80" + b"\xff" * 11, "a number"),
        (b"\xff" * 12, "a size below 0"),
    ],
)
def test_a_size_that_is_none_is_refused(size: bytes, said: str):
    assert said in refused(tars.patched(tars.member("a"), 124, size))


@pytest.mark.parametrize(
    "records",
    [
        b"9 size=-1\n",
        b"99 path=a\n",
        b"0 path=a\n",
        b"9 path=ab",
        b"path=a\n",
        b"8 patha\n",
        b"6 =ab\n",
        b"9 size=1x\n",
        b"-9 path=a\n",
        tars.record(b"size", b"1" * 20),
        tars.record(b"size", b"1" * 5000),
        b"1" * 1024 * 1024,
        b"2 " * 512 * 1024,
        b"1" * 5000 + b" path=a\n",
    ],
)
def test_an_extended_header_that_is_none_is_refused_at_once(records: bytes):
    assert refused(tars.member("pax", records, kind=b"x"), tars.member("a")).startswith("malformed layer: ")


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_longer_extended_header_than_an_honest_one_is_refused_before_it_is_read(kind: bytes):
    header = tars.patched(tars.member("x", kind=kind), 124, b"%011o\0" % (1024 * 1024 + 1))
    passed = []

    def pieces() -> Iterator[bytes]:
        for _ in range(3000):
            passed.append(1)
            yield header if len(passed) == 1 else bytes(512)

    with pytest.raises(MalformedDocument, match="longer extended headers"):
        read(pieces())
    assert len(passed) == 1


def test_extended_headers_may_not_be_endless_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream, "MAX_SPECIALS", 100)
    made = tars.extended((b"path", b"a" * 30)) + tars.member("a")

    assert len(layer(made, made).entries) == 2
    assert "longer extended headers" in refused(made, made, made)


@pytest.mark.parametrize("kind", [b"x", b"L", b"K"])
def test_a_chain_of_extended_headers_is_refused(kind: bytes):
    assert "too many extended headers" in refused(tars.member("x", kind=kind) * 2000)


def test_there_are_so_many_entries_and_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(headers, "MAX_ENTRIES", 3)

    assert len(layer(*3 * [tars.member("a")]).entries) == 3
    assert "more than 3 entries" in refused(*4 * [tars.member("a")])
    assert "more than 3 entries" in refused(*4 * [tars.extended(kind=b"g")])


def test_a_tar_is_read_up_to_so_many_bytes_and_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream, "MAX_UNPACKED", 10_000)

    assert layer(tars.member("a", b"a" * 8000)).entries
    assert "larger than 10000 B" in refused(tars.member("a"), end=tars.END + bytes(10_000))


def test_names_are_kept_up_to_so_many_characters_and_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tar, "MAX_TEXT", 100)
    named = tars.member("lib/apk/db/installed", b"P:" + b"n" * 90)

    assert "longer than 100 characters" in refused(*3 * [tars.symlink("a" * 20, "b" * 20)])
    assert "longer than 100 characters" in refused(*3 * [tars.member(".wh." + "a" * 40)])
    assert "longer than 100 characters" in refused(named)


def test_no_file_is_held_in_memory():
    size = 32 * 1024 * 1024
    begin, zeros = tars.patched(tars.member("a"), 124, b"%011o\0" % size), bytes(1024 * 1024)

    tracemalloc.start()
    try:
        read(itertools.chain([begin], itertools.repeat(zeros, size // len(zeros)), [tars.END]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1024 * 1024


@pytest.mark.parametrize(
    "error",
    [RegistryError("broke off"), ValueError("no gzip"), EOFError("too early"), tarfile.ReadError("x"), zlib.error("y")],
)
def test_an_error_of_the_pieces_passes_unchanged_wherever_it_comes(error: Exception):
    data = tars.member("long" * 40, b"x" * 600) + tars.extended((b"path", b"p")) + tars.member("z") + tars.END

    def pieces(count: int) -> Iterator[bytes]:
        yield from tars.in_pieces(data[:count], 100)
        raise error

    for count in range(0, len(data) + 1, 256):
        with pytest.raises(type(error)) as caught:
            read(pieces(count))
        assert caught.value is error
        assert caught.value.__context__ is None


@settings(max_examples=25)
@given(st.lists(st.integers(0, 700), min_size=1, max_size=20))
def test_how_the_bytes_are_cut_in_pieces_makes_no_difference(sizes: list[int]):
    named = tars.member("long" * 40, b"x" * 600) + tars.extended((b"path", b"p")) + tars.member("q")
    data = io.BytesIO(named + tars.member("etc/passwd", b"root:x:0:0\n") + tars.END)

    found = read(itertools.chain((data.read(size) for size in sizes), iter(data.read, b"")))

    assert found == read(iter([data.getvalue()]))


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_broken_in_a_tar_it_is_read_or_refused(seed: int):
    draw = random.Random(seed)
    whole = [
        tars.folder("etc") + tars.member("etc/passwd", b"root:x:0:0::/:/bin/sh\n") + tars.hardlink("h", "etc/passwd"),
        tars.extended((b"path", b"d/.wh.x"), (b"size", b"3"), (b"uid", b"12345678")) + tars.member("s", b"abc"),
        tars.member("d/" * 60 + "e", b"x" * 700, uid=5_000_000) + tars.symlink("q", "y" * 150),
        zlib.decompress(base64.b64decode(draw.choice([*SPARSE.values()])))[:4096],
    ]
    for _ in range(60):
        data = draw.choice(whole) + tars.END
        for _ in range(draw.randrange(1, 4)):
            block, at = draw.randrange(len(data) // 512), draw.randrange(512)
            byte = bytes([draw.choice([*b"\0\x80\xff91-./", draw.randrange(256)])])
            data = tars.patched(data, at, byte, block=block)
        data = data[: draw.choice([len(data), draw.randrange(len(data))])]
        try:
            found = read(tars.in_pieces(data, 300))
        except MalformedDocument:
            continue
        assert found.unpacked_bytes == len(data)


def told(path: str, content: bytes | str) -> list[tuple[str, str, str]]:
    data = content if isinstance(content, bytes) else content.encode()
    found = layer(tars.member(path, data)).packages
    assert all(package.place == path for package in found)
    return [(package.kind, package.name, package.version) for package in found]


def test_dpkg_tells_of_what_is_installed_and_not_of_what_is_left_of_it():
    status = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u4
Description: GNU C Library
 Version: not this one

Package: gone
Status: deinstall ok config-files
Version: 1

Package: kept
Status: hold ok installed
Version: 1:2~3

Package: broken
Status: install reinstreq half-installed
Version: 4

Package: says-nothing
Version: 5
"""

    assert told("var/lib/dpkg/status", status) == [("deb", "kept", "1:2~3"), ("deb", "libc6", "2.36-9+deb12u4")]


def test_distroless_keeps_one_control_file_a_package():
    assert told("var/lib/dpkg/status.d/tzdata", "Package: tzdata\nVersion: 2024a\n") == [("deb", "tzdata", "2024a")]
    assert told("var/lib/dpkg/status.d/tzdata.md5sums", "d41d8cd9  usr/share/doc/tzdata\n") == []


@pytest.mark.parametrize("path", ["lib/apk/db/installed", "usr/lib/apk/db/installed"])
def test_apk_tells_of_what_is_installed(path: str):
    text = "C:Q1=\nP:musl\nV:1.2.4-r2\nT:the libc\nF:lib\nR:ld.so\n\nP:busybox\nV:1.36\n\nF:only\n"

    assert told(path, text) == [("apk", "busybox", "1.36"), ("apk", "musl", "1.2.4-r2")]


@pytest.mark.parametrize(
    "path",
    [
        "usr/lib/python3/dist-packages/x-1.egg-info/PKG-INFO",
        "usr/lib/python3/dist-packages/x-1.egg-info",
        "app/.venv/lib/python3.13/site-packages/x-1.dist-info/METADATA",
        "x-1.dist-info/METADATA",
    ],
)
def test_python_tells_in_the_head_of_its_metadata(path: str):
    text = "Metadata-Version: 2.1\r\nname: Requests\r\nVERSION: 2.31.0\r\n\r\nName: of something else\r\nVersion: 3\r\n"

    assert told(path, text) == [("python", "Requests", "2.31.0")]


@pytest.mark.parametrize(
    ("path", "is_package"),
    [
        ("app/node_modules/react/package.json", True),
        ("node_modules/react/package.json", True),
        ("app/node_modules/@types/react/package.json", True),
        ("app/node_modules/a/node_modules/react/package.json", True),
        ("app/node_modules/.pnpm/react@18.2.0/node_modules/react/package.json", True),
        ("app/.next/standalone/node_modules/react/package.json", True),
        ("app/package.json", False),
        ("app/node_modules/package.json", False),
        ("app/node_modules/@types/package.json", False),
        ("app/node_modules/react/cjs/package.json", False),
        ("app/node_modules/next/dist/compiled/react/package.json", False),
        ("app/node_modules/.cache/package.json", False),
        ("app/old_node_modules/react/package.json", False),
    ],
)
def test_npm_tells_in_the_folders_that_node_finds_packages_in(path: str, *, is_package: bool):
    text = json.dumps({"name": "react", "version": "18.2.0", "exports": {}})

    assert told(path, text) == ([("npm", "react", "18.2.0")] if is_package else [])


def test_a_package_that_tells_no_version_is_there_without_one():
    assert told("node_modules/a/package.json", '{"name": "a", "version": 3}') == [("npm", "a", "")]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"\n\n\n",
        b":",
        b"Package: \nStatus: installed\nName: \nP:\n",
        b"[" * 100_000,
        b'["name"]',
        b'{"name": {}, "version": "1"}',
        b'{"name": "\\ud800", "version": "1"}',
        b'{"name": "\\u001b[2J", "version": "1"}',
        b'{"name": "' + b"n" * 300 + b'", "version": "1"}',
        b'{"name": "a", "version": "1\\n2"}',
        b"1" * 5000,
        b"Name: a\x1b[2J\nVersion: 1\nPackage: a\x07\nStatus: installed\n\nP:\x00\n",
    ],
)
def test_rubbish_tells_of_nothing(content: bytes):
    files = ("var/lib/dpkg/status", "lib/apk/db/installed", "a.dist-info/METADATA", "node_modules/a/package.json")

    found = layer(*(tars.member(path, content) for path in (*files, "etc/passwd")))

    assert (found.packages, found.users) == ((), {})


def test_a_larger_file_than_any_such_is_not_parsed_but_hashed_all_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tar, "MAX_PARSED", 10)
    found = layer(tars.member("etc/passwd", b"root:x:0:0\n"), tars.member("lib/apk/db/installed", b"P:a\nV:1\n\n\n\n"))

    assert (found.users, found.packages) == (None, ())
    assert found.entries[0].digest == sha256(b"root:x:0:0\n")


def test_users_are_the_first_of_each_name_that_has_a_number():
    lines = b"root:x:0:0:root:/root:/bin/sh\nroot:x:5:0::/:\napp:x:10001:1::/:\n\n# c\nx:y:-1::\nz:x:4294967296:\nn:x\n:x:3:\n"

    assert layer(tars.member("./etc/passwd", lines)).users == {"root": 0, "app": 10001}


def test_of_two_files_of_one_path_the_last_tells():
    first, last = b"P:a\nV:1\n", b"P:b\nV:2\n"
    place = "lib/apk/db/installed"

    assert layer(tars.member(place, first), tars.member(place, last)).packages == (Package("apk", "b", "2", place),)
    assert layer(tars.member(place, first), tars.symlink(place, "x")).packages == ()
    assert layer(tars.member("etc/passwd", b"a:x:1:\n"), tars.symlink("etc/passwd", "x")).users is None


def test_a_hard_link_tells_what_its_file_does_as_uv_and_pnpm_install_from_their_caches():
    cached, linked = "root/.cache/uv/a-1.dist-info/METADATA", "usr/lib/a-1.dist-info/METADATA"

    found = layer(
        tars.member(cached, b"Name: a\nVersion: 1\n\n"),
        tars.hardlink(linked, f"./{cached}"),
        tars.hardlink("other", cached),
    )

    assert found.packages == (Package("python", "a", "1", cached), Package("python", "a", "1", linked))


def test_packages_are_sorted_and_each_is_told_once():
    one = b"P:b\nV:1\n\nP:a\nV:1\n\nP:b\nV:1\n"

    assert [package.name for package in layer(tars.member("lib/apk/db/installed", one)).packages] == ["a", "b"]


@pytest.mark.parametrize("name", sorted(SPARSE))
def test_what_entries_take_in_the_tar_is_the_tar_but_for_its_end(name: str):
    data = zlib.decompress(base64.b64decode(SPARSE[name]))

    stored = sum(entry.stored_bytes for entry in read(tars.in_pieces(data)).entries)

    assert 0 < stored <= len(data) - len(tars.END)
    assert not any(data[stored:]), "what is left is the end"


def test_extended_headers_and_long_names_count_as_what_their_entry_takes():
    members = [
        tars.extended((b"path", b"p" * 300)) + tars.member("x", b"1"),
        tars.member("plain", b"2" * 513),
        tars.folder("folder"),
    ]

    assert [entry.stored_bytes for entry in layer(*members).entries] == [len(member) for member in members]
