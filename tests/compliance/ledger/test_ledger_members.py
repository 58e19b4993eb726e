"""Archives and folders that are made to confuse, climb out, or never end."""

import gzip
import io
import os
import tarfile
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.ledger.bundle import TarWriter, write_bundle
from compliance.ledger.members import MAX_LINE_BYTES, MAX_SMALL_BYTES, BundleError, open_bundle, read_lines, read_small


def tar_of(path, *members, **options):
    with tarfile.open(path, "w", **{"format": tarfile.USTAR_FORMAT, **options}) as tar:
        for name, data, *changes in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in changes[0].items() if changes else ():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def plain(tmp_path):
    return tar_of(tmp_path / "plain.tar", ("a", b"one\n"), ("b/c", b"x" * 2000 + b"\n"))


def test_an_ordinary_archive_is_read(plain):
    bundle = open_bundle(plain)
    assert bundle.names() == ["a", "b/c"]
    assert read_small(bundle, "b/c") == b"x" * 2000 + b"\n"
    assert list(read_lines(bundle, "a")) == [b"one"]
    with pytest.raises(BundleError, match="no d"):
        bundle.open("d")


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_that_people_pack_again_are_read(tmp_path, format):
    (tmp_path / "folder/ledger").mkdir(parents=True)
    (tmp_path / "folder/ledger/keys").write_bytes(b"k\n")

    def whole_seconds(info):
        info.mtime = int(info.mtime)
        return info

    with tarfile.open(tmp_path / "again.tar", "w", format=format) as tar:
        tar.add(tmp_path / "folder", ".", filter=whole_seconds)
    assert open_bundle(tmp_path / "again.tar").names() == ["ledger/keys"]
    assert open_bundle(tmp_path / "folder").names() == ["ledger/keys"]


def test_long_names_are_read(tmp_path):
    name = "/".join(["folder"] * 20) + "/" + "n" * 50
    assert open_bundle(tar_of(tmp_path / "t.tar", (name, b""))).names() == [name]


@pytest.mark.parametrize(
    "name",
    ["../escape", "/etc/passwd", "a/../../b", "a//b", "a/./b", ".hidden", "a/.git", "a b", "a\\b", "\x1b[2Jname", "ü"],
)
def test_names_that_climb_out_hide_or_trick_a_terminal_are_refused(tmp_path, name):
    path = tar_of(tmp_path / "t.tar", (name, b""), encoding="utf-8")
    with pytest.raises(BundleError, match="not allowed") as caught:
        open_bundle(path)
    assert "\x1b" not in str(caught.value)


def test_a_name_that_comes_twice_is_refused(tmp_path):
    with pytest.raises(BundleError, match="twice"):
        open_bundle(tar_of(tmp_path / "t.tar", ("a", b"shown"), ("a", b"checked")))
    with pytest.raises(BundleError, match="twice"):
        open_bundle(tar_of(tmp_path / "t.tar", ("a", b"shown"), ("./a", b"checked")))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.XHDTYPE])
def test_anything_but_files_and_folders_is_refused(tmp_path, kind):
    path = tar_of(tmp_path / "t.tar", ("link", b"", {"type": kind, "linkname": "/etc/passwd"}))
    with pytest.raises(BundleError, match="something else"):
        open_bundle(path)


def test_a_compressed_bundle_is_refused_unread(plain, tmp_path):
    (tmp_path / "t.tgz").write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(BundleError, match="compressed"):
        open_bundle(tmp_path / "t.tgz")


def test_an_archive_cut_anywhere_is_refused(plain, tmp_path):
    data = plain.read_bytes()
    for cut in [*range(0, len(data) - tarfile.RECORDSIZE, 97), 511, 512, 513, 1024]:
        (tmp_path / "cut.tar").write_bytes(data[:cut])
        with pytest.raises(BundleError):
            open_bundle(tmp_path / "cut.tar")


def test_bytes_behind_the_end_are_refused(plain):
    with plain.open("ab") as sink:
        sink.write(b"hidden")
    with pytest.raises(BundleError, match="behind its end"):
        open_bundle(plain)


@pytest.mark.parametrize(
    "size", [b"\x80" + b"\xff" * 11, b"77777777777\x00", b"-1\x00" + bytes(9), b"12x\x00" + bytes(8)]
)
def test_a_size_that_lies_is_refused(plain, size):
    data = bytearray(plain.read_bytes())
    data[124:136] = size.ljust(12, b"\x00")
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    plain.write_bytes(data)
    with pytest.raises(BundleError):
        open_bundle(plain)


@settings(deadline=None)
@given(place=st.integers(0, 511), value=st.integers(1, 255))
def test_any_altered_byte_of_a_header_is_noticed(tmp_path_factory, place, value):
    sink = io.BytesIO()
    tar = TarWriter(sink)
    tar.add("name", b"data")
    tar.finish()
    data = bytearray(sink.getvalue())
    data[place] ^= value
    path = tmp_path_factory.getbasetemp() / "altered.tar"
    path.write_bytes(data)
    try:
        names = open_bundle(path).names()
    except BundleError:
        return
    # The checksum field has spare bytes that carry nothing.
    assert names == ["SHA256SUMS", "name"]
    assert 148 <= place < 156


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("compliance.ledger.members.MAX_MEMBERS", 5)
    path = tar_of(tmp_path / "t.tar", *((f"file{number}", b"") for number in range(6)))
    with pytest.raises(BundleError, match="more than 5"):
        open_bundle(path)
    folder = tmp_path / "folder"
    for _level in range(6):
        folder = folder / "deeper"
    folder.mkdir(parents=True)
    with pytest.raises(BundleError, match="more than 5"):
        open_bundle(tmp_path / "folder")


def test_a_line_without_end_and_a_large_small_file_take_bounded_memory(tmp_path):
    with (tmp_path / "t.tar").open("wb") as sink:
        tar = TarWriter(sink)
        with tar.member("endless") as member:
            for _ in range(64):
                member.write(b"x" * (1 << 20))
        tar.finish()
    bundle = open_bundle(tmp_path / "t.tar")
    tracemalloc.start()
    with pytest.raises(BundleError, match=str(MAX_LINE_BYTES)):
        list(read_lines(bundle, "endless"))
    with pytest.raises(BundleError, match=str(MAX_SMALL_BYTES)):
        read_small(bundle, "endless")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 << 20


def test_a_last_line_without_newline_is_cut(tmp_path):
    bundle = open_bundle(tar_of(tmp_path / "t.tar", ("a", b"one\ntw")))
    with pytest.raises(BundleError, match="line 2"):
        list(read_lines(bundle, "a"))


def test_links_and_pipes_in_a_folder_are_refused(tmp_path):
    (tmp_path / "link").mkdir()
    (tmp_path / "link/passwd").symlink_to("/etc/passwd")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop/again").symlink_to(tmp_path / "loop")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe/fifo")
    for name in ("link", "loop", "pipe"):
        with pytest.raises(BundleError, match="neither a file nor a folder"):
            open_bundle(tmp_path / name)
    with pytest.raises(BundleError, match="regular file"):
        open_bundle(tmp_path / "pipe/fifo")
    with pytest.raises(BundleError, match="regular file"):
        open_bundle(tmp_path / "missing")


def test_a_file_that_becomes_a_link_after_listing_is_not_followed(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f/a").write_bytes(b"")
    bundle = open_bundle(tmp_path / "f")
    (tmp_path / "f/a").unlink()
    (tmp_path / "f/a").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic"):
        bundle.open("a")


@pytest.mark.parametrize("name", ["../a", "/a", "a b", "", ".a", "a\n", "a" * 101])
def test_no_bundle_is_written_that_would_be_refused(tmp_path, name):
    with pytest.raises(ValueError, match="not allowed"):
        write_bundle(tmp_path / "t.tar", {name: b""})
    assert os.listdir(tmp_path) == []


@settings(deadline=None)
@given(st.binary(max_size=3000))
def test_garbage_is_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "garbage.tar"
    path.write_bytes(data)
    with pytest.raises(BundleError):
        open_bundle(path)
