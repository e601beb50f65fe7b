"""What is gathered for the rules: Dockerfiles, build secrets, caches of other services, and what is asked of layers."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes import FakeEngine, make_image

from buildorch import judging
from buildorch.contents import LayerMemory
from buildorch.engine import Engine
from buildorch.inspection import EngineSource, Examined, Hunted, Layers, Question, Search, read_image
from buildorch.judging import Means, case_of, hunted, judged_today, rules_of
from buildorch.measure import measure
from buildorch.oci import ImageConfig, Platform
from buildorch.own_policies import OwnPolicy
from buildorch.plan import Plan, Selection, Solve, resolve
from buildorch.plan_dockerfiles import PlanDockerfiles
from buildorch.policy import Trial
from buildorch.record import Finding
from buildorch.services import Policy, Secret, Service, Size, parse
from buildorch.services.memory import Consulted, recall, remembered
from buildorch.testing import make_digest, make_record

CONFIG = ImageConfig(Platform("linux", "amd64"), "1000", {}, (), ())
SECRET = "a-value-of-a-secret"  # noqa: S105 - made up


def solves(text: str, root: Path) -> Plan:
    return resolve(parse(f"version: 1\nproject: team\n{text}", "services.yaml"), Selection(), root=root)


def one(service: str, root: Path, dockerfile: str = "FROM x\n") -> Solve:
    (root / "services" / "app").mkdir(parents=True, exist_ok=True)
    (root / "services" / "app" / "Dockerfile").write_text(dockerfile)
    [solve] = solves(f"services: {{app: {service}}}", root).solves
    return solve


def means(engine: FakeEngine, **more: object) -> Means:
    return Means(engine=Engine(engine.endpoint), key=b"key", **more)  # type: ignore[arg-type]


def said(engine: FakeEngine, solve: Solve, image_of: object, **more: object) -> tuple[Finding, ...]:
    engine.images["app"] = image = image_of  # type: ignore[assignment]
    asked = means(engine, **more)
    case = case_of(solve, asked)
    documents = read_image(EngineSource(asked.engine), image.digest, Layers({}), case.question)  # type: ignore[attr-defined]
    return judging.verdict(case, documents, measure(documents), asked).findings


# What is asked of layers


@pytest.mark.parametrize(
    ("policy", "user", "contents"),
    [
        (Policy(), "app", False),
        (Policy(user="non-root"), "1000", False),
        (Policy(user="non-root"), "1000:1000", False),
        (Policy(user="non-root"), "", False),
        (Policy(user="non-root"), "app", True),
        (Policy(user="non-root", off={"user": "why"}), "app", False),
        (Policy(contents="warning"), "", True),
        (Policy(contents="warning", off={"contents": "why"}), "", False),
    ],
)
def test_layers_are_read_only_where_a_rule_looks_into_them(policy: Policy, user: str, *, contents: bool):
    case = judging.Case(name="app", spec=Service(policy=policy))

    assert case.question(dataclasses.replace(CONFIG, user=user)) == Question(contents=contents)


# Build secrets


def test_a_secret_is_taken_from_where_the_build_took_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "token.txt").write_text(f"{SECRET}-1\n")
    (tmp_path / "id3").write_text(f"{SECRET}-3")
    monkeypatch.setenv("TOKEN", f"{SECRET}-2")
    monkeypatch.setenv("id4", f"{SECRET}-4")
    secrets = [Secret(id="id1", file="token.txt"), Secret(id="id2", env="TOKEN"), Secret(id="id3"), Secret(id="id4")]

    found = hunted(secrets, tmp_path, b"key")

    assert [one.texts for one in found] == [(f"{SECRET}-{number}".encode(),) for number in (1, 2, 3, 4)]
    assert SECRET not in "".join(one.mark for one in found)


def test_a_secret_that_is_not_there_or_too_short_is_not_looked_for(tmp_path: Path):
    (tmp_path / "short").write_text("1234567")

    assert hunted([Secret(id="no", file="gone"), Secret(id="n", env="GONE"), Secret(id="short")], tmp_path, b"") == ()


def test_of_a_secret_of_several_lines_the_longest_gives_it_away_too(tmp_path: Path):
    (tmp_path / "npmrc").write_text("a=b\n//registry/:_authToken=0123456789\n")

    [found] = hunted([Secret(id="npmrc")], tmp_path, b"")

    assert found.texts == (b"a=b\n//registry/:_authToken=0123456789", b"//registry/:_authToken=0123456789")


@pytest.mark.parametrize("size", [1, 2, 5, 18, 19, 1000])
def test_a_secret_across_pieces_is_found(size: int):
    data = b"x" * 37 + SECRET.encode() + b"y" * 41
    search = Search((Hunted("id", (SECRET.encode(),), ""),))

    passed = b"".join(search.seen(iter([data[at : at + size] for at in range(0, len(data), size)])))

    assert (passed, search.found) == (data, {"id"})


def test_a_secret_that_is_not_there_is_not_found():
    search = Search((Hunted("id", (SECRET.encode(),), ""),))

    assert b"".join(search.seen(iter([SECRET[:-1].encode(), b"!"])))
    assert search.found == frozenset()


def test_a_secret_in_a_layer_is_an_error_with_the_layers_instruction(engine: FakeEngine, tmp_path: Path):
    (tmp_path / "token").write_text(SECRET)
    image = make_image(layers=[b"x", SECRET.encode()])

    found = said(engine, one("{secrets: [{id: token}]}", tmp_path), image)

    assert [(each.rule, each.severity, each.message) for each in found] == [
        ("secrets", "error", "linux/amd64: the value of the build secret 'token' is in the layer of COPY 1 /")
    ]
    assert SECRET not in repr(found)


def test_where_the_rule_is_off_no_secret_is_read(engine: FakeEngine, tmp_path: Path):
    (tmp_path / "token").write_text(SECRET)
    solve = one("{secrets: [{id: token}], policy: {off: {secrets: why}}}", tmp_path)

    assert case_of(solve, means(engine)).secrets == ()


class Facts(dict[str, str]):
    """What a ledger remembers."""

    fact = dict.get

    def remember(self, key: str, value: str) -> None:
        self[key] = value


def test_that_a_layer_holds_no_secret_is_remembered_until_the_secret_is_another():
    layers, looked = Layers({}, facts=Facts()), []

    def look(question: Question) -> Examined:
        looked.append([one.mark for one in question.secrets])
        return Examined(1, leaked=frozenset({"id"}))

    found = [
        layers.examine("sha256:a", look, Question(secrets=(Hunted("id", (b"x",), mark),))).leaked
        for mark in ("one", "one", "two", "one")
    ]

    assert looked == [["one"], ["two"]]
    assert found == [{"id"}] * 4


def test_what_a_layer_holds_is_read_once(engine: FakeEngine, tmp_path: Path):
    image = engine.images["app"] = make_image(layers=[b"x"])
    source = EngineSource(Engine(engine.endpoint))
    sizes: dict[str, int] = {}
    ask = lambda _: Question(contents=True)  # noqa: E731

    first = read_image(source, image.digest, Layers(sizes, memory=LayerMemory(tmp_path)), ask)
    before = len(engine.asked)
    again = read_image(source, image.digest, Layers(sizes, memory=LayerMemory(tmp_path)), ask)

    assert len(engine.asked) - before == 2, "manifest and config, and no layer"
    assert first.platforms[0].contents == again.platforms[0].contents
    assert [entry.path for entry in (again.platforms[0].contents or ())[0].entries] == ["file"]


def test_a_layer_whose_size_alone_is_known_is_read_for_what_it_holds(engine: FakeEngine, tmp_path: Path):
    image = engine.images["app"] = make_image(layers=[b"x"])
    source, layers = EngineSource(Engine(engine.endpoint)), Layers({}, memory=LayerMemory(tmp_path))
    read_image(source, image.digest, layers)

    documents = read_image(source, image.digest, layers, lambda _: Question(contents=True))

    assert documents.platforms[0].contents is not None


# Caches of other services


def test_a_cache_that_another_service_shares_otherwise_is_told(engine: FakeEngine, tmp_path: Path):
    for name, sharing in (("a", "shared"), ("b", "private")):
        folder = tmp_path / "services" / name
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text(
            f"FROM x\nRUN --mount=type=cache,id=pip,target=/root/.cache/pip,sharing={sharing} true\n"
        )
    plan = solves("services: {a: {policy: {cache_mounts: error}}, b: }", tmp_path)
    asked = judging.means(
        plan,
        engine=Engine(engine.endpoint),
        key=b"",
        locked=(),
        own=(),
        is_stopped=lambda: False,
    )
    engine.images["a"] = image = make_image()
    case = case_of(plan.solves[0], asked)
    documents = read_image(EngineSource(asked.engine), image.digest, Layers({}))

    found = judging.verdict(case, documents, measure(documents), asked).findings

    assert [(each.rule, each.severity) for each in found] == [("cache_mounts", "warning")]
    assert "b" in found[0].message


def test_a_dockerfile_is_read_once_for_its_own_service_and_for_what_others_share(tmp_path: Path):
    solve = one("", tmp_path, "FROM x\nRUN --mount=type=cache,target=/c true\n")
    files = PlanDockerfiles([solve])
    read = files.of(solve)
    (tmp_path / "services" / "app" / "Dockerfile").unlink()

    assert files.mounts_elsewhere("another") == {"/c": {"app": "shared"}}
    assert read is not None
    assert files.of(solve) is read


# Rules of one's own


def test_a_policy_of_ones_own_is_asked_beside_the_others_and_sorted_with_them(engine: FakeEngine, tmp_path: Path):
    own = OwnPolicy("p:f", lambda subject: [Finding(rule="f", severity="error", message=subject.spec.target or "")])

    found = said(engine, one("{args: {TOKEN: x}, target: t}", tmp_path), make_image(), named=("p:f",), own=(own,))

    assert [(each.rule, each.severity) for each in found] == [("f", "error"), ("secrets", "warning")]


def test_a_policy_of_ones_own_that_is_off_is_not_asked(engine: FakeEngine, tmp_path: Path):
    own = OwnPolicy("p:f", lambda _: [Finding(rule="f", severity="error", message="m")])

    assert said(engine, one("{policy: {off: {'p:f': why}}}", tmp_path), make_image(), named=("p:f",), own=(own,)) == ()


def test_that_policies_were_not_allowed_is_a_warning(engine: FakeEngine, tmp_path: Path):
    [found] = said(engine, one("{}", tmp_path), make_image(), named=("p:f",))

    assert (found.rule, found.severity) == ("policies", "warning")
    assert "p:f" in found.message


# What the verdict of before is worth today


def test_the_rules_are_other_ones_where_anything_in_them_is(engine: FakeEngine):
    base = Service(policy=Policy(user="non-root"), size=Size(max=1))
    others = [
        base.model_copy(update={"policy": Policy()}),
        base.model_copy(update={"size": Size(max=2)}),
        base.model_copy(update={"policy": Policy(user="non-root", off={"size": "why"})}),
        base.model_copy(update={"policy": Policy(user="non-root", labels=("x",))}),
    ]

    own = (OwnPolicy("p:f", lambda _: ()),)
    hunted_for = (Hunted("id", (b"x",), "mark"),)
    digests = [rules_of(spec, (), means(engine)) for spec in (base, *others)]
    digests += [rules_of(base, (), means(engine, named=("p:f",), own=asked)) for asked in ((), own)]
    digests.append(rules_of(base, hunted_for, means(engine)))

    assert len(set(digests)) == len(digests)
    alike = base.model_copy(update={"tags": ("x",), "args": {"a": "b"}})
    assert rules_of(base, (), means(engine)) == rules_of(alike, (), means(engine, locked=frozenset({"b"})))


def test_where_bases_must_be_pinned_the_lock_is_one_of_the_rules(engine: FakeEngine):
    spec = Service(policy=Policy(pinned="error"))

    assert rules_of(spec, (), means(engine)) != rules_of(spec, (), means(engine, locked=frozenset({"b"})))


def test_a_service_that_was_recalled_has_the_rules_of_the_one_that_was_parsed(engine: FakeEngine):
    text = "version: 1\nproject: p\nservices: {a: {size: {max: 1GB}, policy: {smoke: {port: 1}, off: {user: why}}}}\n"
    parsed = parse(text, "services.yaml")
    kept = remembered(parsed, "key", Consulted({}))
    recalled = recall(kept or "", "key", {})
    assert recalled is not None

    both = [rules_of(file.merged("a"), (), means(engine)) for file in (parsed, recalled)]

    assert both[0] == both[1]
    assert recalled.merged("a").policy.smoke.port == 1  # type: ignore[union-attr]


def test_a_trial_that_a_stop_cut_short_is_no_verdict(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("buildorch.engine.try_start", lambda *_, **__: Trial("not_tried", log=("stopped",)))
    engine.images["app"] = image = make_image()
    asked = means(engine, is_stopped=lambda: True)
    case = dataclasses.replace(case_of(one("{policy: {smoke: {}}}", tmp_path), asked), trial=image.digest)
    documents = read_image(EngineSource(asked.engine), image.digest, Layers({}))

    assert judging.verdict(case, documents, measure(documents), asked).rules is None
    again = dataclasses.replace(asked, is_stopped=lambda: False)
    assert judging.verdict(case, documents, measure(documents), again).rules is not None


def test_only_so_many_images_are_on_trial_at_once(engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    running, most, go_on = set[int](), [0], threading.Barrier(judging.MOST_TRIALS)

    def trial(*_: object, **__: object) -> Trial:
        running.add(threading.get_ident())
        most[0] = max(most[0], len(running))
        go_on.wait(30)  # as many as may be are here together; one more would be counted
        running.discard(threading.get_ident())
        return Trial("well")

    monkeypatch.setattr("buildorch.engine.try_start", trial)
    engine.images["app"] = image = make_image()
    asked = means(engine)
    case = dataclasses.replace(case_of(one("{policy: {smoke: {}}}", tmp_path), asked), trial=image.digest)
    documents = read_image(EngineSource(asked.engine), image.digest, Layers({}))
    count = 3 * judging.MOST_TRIALS

    with ThreadPoolExecutor(count) as pool:
        said = [*pool.map(lambda _: judging.verdict(case, documents, measure(documents), asked), range(count))]

    assert len(said) == count
    assert most == [judging.MOST_TRIALS]


def test_a_name_that_is_no_unicode_is_written_so_that_a_record_can_hold_it(engine: FakeEngine, tmp_path: Path):
    own = OwnPolicy("p:f", lambda _: [Finding(rule="f", severity="error", message="/\udcff", hint="\udcfe")])

    [found] = said(engine, one("{}", tmp_path), make_image(), named=("p:f",), own=(own,))

    assert (found.message, found.hint) == ("/\\udcff", "\\udcfe")


def test_a_word_of_every_image_is_no_secret_to_look_for(tmp_path: Path):
    for name, value in (("word", "password"), ("long", "passwordpassword"), ("mixed", "passw0rd")):
        (tmp_path / name).write_text(value)

    found = hunted([Secret(id=name) for name in ("word", "long", "mixed")], tmp_path, b"")

    assert [one.secret for one in found] == ["long", "mixed"]


def test_a_base_image_whose_support_ended_since_the_build_is_told_on_a_skip():
    record = dataclasses.replace(make_record(digest=make_digest("x")), bases={"debian:10": make_digest("b")})

    [found] = judged_today(Service(), record).findings

    assert (found.rule, found.severity) == ("end_of_life", "warning")
    assert judged_today(Service(policy=Policy(off={"end_of_life": "why"})), record) == record


def test_a_base_image_that_gets_support_again_is_not_told_for_ever():
    old = Finding(rule="end_of_life", severity="warning", message="m")
    record = dataclasses.replace(make_record(digest=make_digest("x")), findings=(old,), bases={"own": make_digest("b")})

    assert judged_today(Service(), record).findings == ()
