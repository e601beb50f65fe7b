from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildorch.errors import EXIT_USAGE, UnknownService, UsageError
from buildorch.plan import Plan, Revision, Selection, resolve
from buildorch.services import parse
from buildorch.testing import make_plan

ROOT = Path("/project")
CLEAN = Revision("0123456789abcdef0123456789abcdef01234567", "main", dirty=False)


def planned(services: str, selection: Selection | None = None, *, revision: Revision | None = CLEAN) -> Plan:
    file = parse(f"version: 1\nproject: shop\nservices: {services}\n", "services.yaml")
    return resolve(file, selection or Selection(), root=ROOT, revision=revision, date="20260131")


def names(plan: Plan) -> list[str]:
    return [solve.name for solve in plan.solves]


def tags(service_tags: str, *, revision: Revision | None = CLEAN) -> list[str]:
    [solve] = planned(f"{{app: {{tags: {service_tags}}}}}", revision=revision).solves
    return [reference.removeprefix("shop/app:") for reference in solve.references]


def test_services_that_do_not_build_on_each_other_stand_in_the_files_order():
    assert names(make_plan({"b": [], "c": [], "a": []})) == ["b", "c", "a"]


def test_a_service_stands_after_everything_it_builds_on():
    assert names(make_plan({"app": ["lib", "base"], "lib": ["base"], "base": []})) == ["base", "lib", "app"]


@pytest.mark.proof
@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(*[st.sets(st.integers(0, at - 1)) if at else st.just(set()) for at in range(n)])
    ),
    st.randoms(),
)
def test_in_any_graph_a_service_stands_after_its_bases(edges: tuple[set[int], ...], random):
    graph = {f"s{at}": [f"s{base}" for base in bases] for at, bases in enumerate(edges)}
    shuffled = list(graph.items())
    random.shuffle(shuffled)

    plan = make_plan(dict(shuffled))

    place = {name: at for at, name in enumerate(names(plan))}
    assert sorted(place) == sorted(graph)
    assert all(place[base] < place[name] for name, bases in graph.items() for base in bases)


def test_a_selection_takes_what_the_services_build_on_along_and_nothing_else():
    plan = planned(
        "{app: {contexts: {b: service:lib}}, lib: {contexts: {b: service:base}}, base: , other: }",
        Selection(services=("app",)),
    )

    assert names(plan) == ["base", "lib", "app"]


def test_a_service_selected_twice_is_built_once():
    assert names(planned("{app: , web: }", Selection(services=("web", "web")))) == ["web"]


def test_an_unknown_service_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownService, match="there is no service 'frontend-wep'") as caught:
        planned("{backend: , frontend-web: }", Selection(services=("backend", "frontend-wep")))

    assert caught.value.hint == "did you mean 'frontend-web'?"
    assert caught.value.exit_code == EXIT_USAGE


def test_an_unknown_service_unlike_any_other_is_refused_with_all_names():
    with pytest.raises(UnknownService) as caught:
        planned("{backend: , web: }", Selection(services=("zzz",)))

    assert caught.value.hint == "the services are: backend, web"


@pytest.mark.parametrize(
    ("template", "revision", "tag"),
    [
        ("{git_sha}", CLEAN, "0123456789ab"),
        ("{git_sha}", Revision(CLEAN.sha, "main", dirty=True), "0123456789ab-dirty"),
        ("v1-{git_sha}.{date}", CLEAN, "v1-0123456789ab.20260131"),
        ("{git_branch}", CLEAN, "main"),
        ("{git_branch}", Revision(CLEAN.sha, "feature/Add_x.y", dirty=False), "feature-Add_x.y"),
        ("{git_branch}", Revision(CLEAN.sha, "-odd/", dirty=False), "odd"),
        ("{git_branch}", Revision(CLEAN.sha, "größe", dirty=False), "gr-e"),
        ("{git_branch}", Revision(CLEAN.sha, "{date}", dirty=False), "date"),
        ("{git_branch}", Revision(CLEAN.sha, "", dirty=False), "detached"),
        ("{date}", None, "20260131"),
        ("latest", None, "latest"),
    ],
)
def test_a_tags_placeholder_is_filled_in(template: str, revision: Revision | None, tag: str):
    assert tags(f"['{template}']", revision=revision) == [tag]


@pytest.mark.parametrize("template", ["{git_sha}", "{git_branch}"])
def test_a_tag_that_names_a_commit_where_there_is_none_is_refused_with_a_way_out(template: str):
    with pytest.raises(UsageError, match=r"app: the tag .* names the git commit, and there is none") as caught:
        tags(f"['{template}']", revision=None)

    assert "--set '*.tags=[latest]'" in caught.value.hint


def test_a_branch_that_makes_the_staging_tag_is_refused():
    with pytest.raises(UsageError, match=r"the tag 'buildorch-\{git_branch\}' is buildorch-staging"):
        tags("['buildorch-{git_branch}']", revision=Revision(sha="a" * 40, branch="staging", dirty=False))


def test_a_branch_that_makes_a_tag_too_long_is_refused():
    with pytest.raises(UsageError, match="is longer than 128 characters"):
        tags("['{git_branch}']", revision=Revision(CLEAN.sha, "b" * 129, dirty=False))


def test_tags_that_come_to_the_same_are_given_once():
    assert tags("['{git_branch}', main]") == ["main"]


@pytest.mark.parametrize(
    ("service", "context", "dockerfile"),
    [
        ("{}", Path("/project/services/app"), Path("/project/services/app/Dockerfile")),
        ("{context: .}", ROOT, Path("/project/Dockerfile")),
        ("{context: ../other/./x}", Path("/other/x"), Path("/other/x/Dockerfile")),
        ("{context: a/../../../../b}", Path("/b"), Path("/b/Dockerfile")),
        ("{context: /abs/a/..}", Path("/abs"), Path("/abs/Dockerfile")),
        (
            "{context: a, dockerfile: ../docker/App.Dockerfile}",
            Path("/project/a"),
            Path("/project/docker/App.Dockerfile"),
        ),
        ("{context: a, dockerfile: /etc/Dockerfile}", Path("/project/a"), Path("/etc/Dockerfile")),
    ],
)
def test_paths_are_absolute_and_without_dots(service: str, context: Path, dockerfile: Path):
    [solve] = planned(f"{{app: {service}}}").solves

    assert (solve.context, solve.dockerfile) == (context, dockerfile)


@pytest.mark.parametrize(
    "url",
    ["https://git.example/app.git#main:docker", "git@git.example:app.git", "git://git.example/app", "github.com/a/b"],
)
def test_a_context_that_buildkit_reads_itself_is_left_as_it_is(url: str):
    [solve] = planned(f"{{app: {{context: '{url}', dockerfile: docker/Dockerfile}}}}").solves

    assert (solve.context, solve.dockerfile) == (url, "docker/Dockerfile")


def test_named_contexts_are_folders_references_or_services():
    plan = planned(
        "{app: {contexts: {lib: ../lib, os: 'docker-image://debian', oci: 'oci-layout://x', b: service:base}}, base: }"
    )

    app = plan.solves[-1]
    assert app.contexts == {"lib": Path("/lib"), "os": "docker-image://debian", "oci": "oci-layout://x"}
    assert app.bases == {"b": "base"}
    assert app.depends_on == ("base",)


def test_a_service_used_twice_is_one_dependency():
    plan = planned("{app: {contexts: {a: service:base, b: service:base}}, base: }")

    assert plan.solves[-1].depends_on == ("base",)


def test_what_was_asked_for_stands_over_what_the_services_say():
    selection = Selection(output="push", platforms=("linux/arm64",), builder="ci", no_cache=True)

    [solve] = planned("{app: {platforms: [linux/amd64], builder: own}}", selection).solves

    assert (solve.output, solve.platforms, solve.builder, solve.no_cache) == ("push", ("linux/arm64",), "ci", True)


def test_a_platform_that_is_none_is_refused():
    with pytest.raises(UsageError, match="'arm' is not a platform"):
        planned("{app: }", Selection(platforms=("arm",)))


@pytest.mark.parametrize(
    ("mistyped", "hint"),
    [("linux/arm46", "did you mean 'arm64'?"), ("linus/amd64", "did you mean 'linux'?"), ("linux/x", "write it as")],
)
def test_a_platform_that_nobody_knows_is_not_built_under_its_name(mistyped: str, hint: str):
    with pytest.raises(UsageError, match=f"'{mistyped}' is not a platform that is known") as caught:
        planned("{app: }", Selection(platforms=(mistyped,)))

    assert caught.value.hint.startswith(hint)


def test_the_plan_as_json_holds_what_would_be_built():
    plan = planned("{app: {context: a, contexts: {b: service:base}, outputs: ['type=oci,dest=x'], target: t}, base: }")

    document = plan.to_json()

    assert document["schema"] == "buildorch.plan/1"
    assert list(document["services"]) == ["base", "app"]
    assert document["services"]["app"] == {
        "references": ["shop/app:latest"],
        "context": "/project/a",
        "dockerfile": "/project/a/Dockerfile",
        "target": "t",
        "platforms": [],
        "output": ["type=oci,dest=x"],
        "builder": None,
        "depends_on": ["base"],
    }
    assert document["services"]["base"]["output"] == "load"
