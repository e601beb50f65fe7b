"""The root file system of several layers: judged against real files, put on a real disk by the book."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from buildorch.contents import Entry, LayerContents
from buildorch.contents import rootfs as rootfs_module
from buildorch.contents.layer import Kind
from buildorch.contents.rootfs import rootfs, survivors
from buildorch.errors import MalformedDocument


def layer(*entries: Entry) -> LayerContents:
    return LayerContents(0, entries)


def files(*paths: str) -> LayerContents:
    return layer(*(Entry(path, "file") for path in paths))


def whiteout(path: str) -> Entry:
    return Entry(path, "whiteout")


def opaque(path: str) -> Entry:
    return Entry(path, "opaque")


def link(path: str, target: str) -> Entry:
    return Entry(path, "symlink", target=target)


def paths(*layers: LayerContents) -> list[str]:
    return sorted(rootfs(layers))


def test_an_upper_layers_entry_takes_the_place_of_a_lower_ones():
    lower, upper = Entry("a", "file", size=1), Entry("a", "file", size=2)

    assert rootfs([layer(lower), layer(upper)]) == {"a": upper}
    assert survivors([layer(lower), layer(upper)]) == [set(), {"a"}]


def test_a_whiteout_takes_away_a_file_and_a_folder_with_all_it_holds_and_nothing_else():
    lower = layer(Entry("d", "folder"), *files("d/x", "d/e/y", "dx", "a", "ab").entries)

    assert paths(lower, layer(whiteout("d"), whiteout("a"), whiteout("missing"), whiteout("dx/y"))) == ["ab", "dx"]


def test_an_opaque_folder_hides_what_lower_layers_have_in_it_wherever_its_mark_stands():
    lower = layer(Entry("d", "folder"), *files("d/old", "d/e/old", "dx").entries)
    own = files("d/new", "d/e/new").entries

    for upper in ((opaque("d"), *own), (*own, opaque("d")), (own[0], opaque("d"), own[1], opaque("d"))):
        assert paths(lower, layer(*upper)) == ["d", "d/e/new", "d/new", "dx"]


def test_an_opaque_root_hides_every_lower_layer():
    assert paths(files("a", "d/b"), files("c"), layer(Entry("new", "file"), opaque(""))) == ["new"]


def test_a_whiteout_takes_nothing_from_its_own_layer_wherever_it_stands():
    lower, own = files("d/old", "d/e/old"), files("d/new").entries

    assert paths(lower, layer(*own, whiteout("d"))) == ["d/new"]
    assert paths(lower, layer(whiteout("d"), *own)) == ["d/new"]


def test_a_folder_that_is_hidden_stays_without_an_entry_where_its_layer_puts_something_in_it():
    lower = layer(Entry("d", "folder", mode=0o777))

    upper = layer(Entry("d/new", "file"), opaque(""), whiteout("d"))

    assert paths(lower, upper) == ["d/new"]
    assert survivors([lower, upper]) == [set(), {"d/new"}]


def test_what_goes_into_a_folder_right_after_a_layer_hid_it_is_there():
    for mark in (whiteout("a"), opaque(""), opaque("a")):
        assert paths(files("a/b/x"), layer(mark, Entry("a/b/y", "file"))) == ["a/b/y"]


def test_what_is_no_folder_takes_away_what_the_folder_it_replaces_holds():
    assert paths(files("d/x"), layer(link("d", "else"))) == ["d"]
    assert paths(files("d/x"), layer(link("d", "else")), layer(Entry("d", "folder"))) == ["d"]


def test_a_folder_in_the_place_of_a_folder_keeps_what_that_holds():
    lower = layer(Entry("d", "folder", mode=0o700), Entry("d/x", "file"))
    upper = Entry("d", "folder", mode=0o755)

    assert rootfs([lower, layer(upper)]) == {"d": upper, "d/x": lower.entries[1]}
    assert survivors([lower, layer(upper)]) == [{"d/x"}, {"d"}]


def test_what_goes_into_a_path_that_is_no_folder_makes_it_one():
    assert paths(files("a"), files("a/b/c")) == ["a/b/c"]


def test_folders_of_a_path_are_followed_and_its_last_name_is_not():
    lower = layer(Entry("usr/lib", "folder"), link("lib", "usr/lib"), *files("usr/lib/old", "usr/lib/gone").entries)
    upper = layer(Entry("lib/new", "file"), whiteout("lib/gone"), link("usr/lib/old", "new"))

    assert paths(lower, upper) == ["lib", "usr/lib", "usr/lib/new", "usr/lib/old"]
    assert survivors([lower, upper]) == [{"lib", "usr/lib"}, {"lib/new", "usr/lib/old"}]


@pytest.mark.parametrize("target", ["/b/c", "c", "../b/c", "../../../b/./c/", "//b//c", "hop"])
def test_a_link_leads_where_it_does_in_the_image_and_never_out_of_it(target: str):
    lower = layer(Entry("b/c", "folder"), link("b/hop", "/b/c"), link("b/l", target))

    assert "b/c/x" in rootfs([lower, files("b/l/x")])


def test_links_that_lead_round_are_followed_so_far_and_no_further():
    found = rootfs([layer(link("a", "b"), link("b", "a")), files("a/x"), layer(whiteout("b/y"), opaque("b"))])

    assert [path[1:] for path in found if path.endswith("/x")] in (["/x"], [])
    assert len(found) <= 2


def test_a_folder_that_replaces_a_link_is_emptied_and_not_where_the_link_led():
    lower = layer(Entry("e/x", "file"), link("d", "e"))

    assert paths(lower, layer(Entry("d", "folder"), opaque("d"), Entry("d/new", "file"))) == ["d", "d/new", "e/x"]


def test_folders_come_before_what_they_hold_and_the_root_may_have_an_entry():
    found = rootfs([layer(Entry("a/b/c", "file"), Entry("", "folder"), Entry("a", "folder"), Entry("a/b", "folder"))])

    assert [*found] == ["", "a", "a/b", "a/b/c"]


def test_paths_as_deep_as_any_cost_no_more_than_others():
    deep = "/".join(["d"] * 2000)

    assert paths(files(f"{deep}/x"), layer(opaque(deep), whiteout("d"))) == []
    assert paths(files(f"{deep}/x"), files(f"{deep}/y"), layer(opaque(deep))) == []


@pytest.mark.proof
@pytest.mark.timeout(10)
def test_many_marks_on_many_files_cost_no_more_than_one():
    lower, own = files(*(f"d/e/{one}" for one in range(100))), files(*(f"d/e/new{one}" for one in range(5000)))
    marks = [opaque("d/e"), opaque("d"), whiteout("d/e"), whiteout("d")] * 4000

    assert len(rootfs([lower, layer(*own.entries, *marks)])) == 5000


def test_there_are_so_many_paths_and_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rootfs_module, "MAX_NODES", 5)

    assert paths(files("a/b/c/d")) == ["a/b/c/d"]
    with pytest.raises(MalformedDocument, match="more than 5 paths"):
        rootfs([files("a/b/c/d"), files("e")])


NAMES = ("a", "b", "c", "d")
KINDS: tuple[Kind, ...] = ("file", "file", "folder", "folder", "symlink", "whiteout", "opaque")


def drawn(draw: random.Random) -> Entry:
    names = draw.choices(NAMES, k=draw.randint(1, 3))
    kind, path, target = draw.choice(KINDS), "/".join(names), ""
    if kind == "opaque" and draw.random() < 0.1:
        path = ""
    if kind == "symlink" and (later := NAMES[NAMES.index(names[-1]) + 1 :]):  # names that only go up never lead round
        target = draw.choice(["", "/"]) + "/".join(draw.choices(later, k=draw.randint(1, 2)))
    return Entry(path, "file" if kind == "symlink" and not target else kind, target=target, uid=draw.randrange(10))


class Disk:
    """A root file system of real files: a file holds the number of its layer, so that nothing of the tree is needed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: dict[str, tuple[int, Entry]] = {}
        """What says what is at each real path."""

    def apply(self, entry: Entry, index: int) -> None:
        real = self.root / entry.path
        if entry.kind == "opaque":
            folder = Path(os.path.realpath(real))
            for child in sorted(folder.iterdir()) if folder.is_dir() else []:
                self._remove_lower(child, index)
            return
        place = Path(os.path.realpath(real.parent)) / real.name
        if entry.kind == "whiteout":
            self._remove_lower(place, index)
            return
        self._make_folders(place.parent)
        if os.path.lexists(place) and not (entry.kind == "folder" and place.is_dir() and not place.is_symlink()):
            shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()
            self.made = {path: what for path, what in self.made.items() if not f"{path}/".startswith(f"{place}/")}
        if entry.kind == "symlink":
            place.symlink_to(f"{self.root}{entry.target}" if entry.target.startswith("/") else entry.target)
        elif entry.kind == "folder":
            place.mkdir(exist_ok=True)
        else:
            place.touch()
        self.made[str(place)] = (index, entry)

    def _make_folders(self, folder: Path) -> None:
        for one in reversed([folder, *folder.parents]):
            if os.path.lexists(one) and (one.is_symlink() or not one.is_dir()):
                one.unlink()
                self.made.pop(str(one), None)
            if not one.exists():
                one.mkdir()

    def _remove_lower(self, place: Path, index: int) -> None:
        if not os.path.lexists(place):
            return
        is_folder = place.is_dir() and not place.is_symlink()
        for child in sorted(place.iterdir()) if is_folder else []:
            self._remove_lower(child, index)
        layer_of, _ = self.made.get(str(place), (-1, None))
        if layer_of == index:
            return
        self.made.pop(str(place), None)
        if not is_folder:
            place.unlink()
        elif not any(place.iterdir()):
            place.rmdir()

    def found(self) -> dict[str, tuple[int, Entry]]:
        """What is there at last, read from the disk."""
        there = [Path(above, name) for above, folders, names in os.walk(self.root) for name in (*folders, *names)]
        return {str(one.relative_to(self.root)): self.made[str(one)] for one in there if str(one) in self.made}


@pytest.mark.parametrize("seed", range(40))
def test_layers_make_the_files_that_they_make_on_a_disk(seed: int, tmp_path: Path):
    draw = random.Random(seed)
    layers = [layer(*(drawn(draw) for _ in range(draw.randrange(9)))) for _ in range(draw.randint(1, 4))]
    disk = Disk(tmp_path.resolve())
    for index, one in enumerate(layers):
        for entry in one.entries:
            disk.apply(entry, index)

    found = disk.found()

    assert rootfs(layers) == {path: entry for path, (_, entry) in found.items()}
    assert survivors(layers) == [
        {entry.path for index, entry in found.values() if index == wanted} for wanted in range(len(layers))
    ]
