"""What is wrong with a services file, said with its place."""

from __future__ import annotations

import pytest

from buildorch.errors import EXIT_USAGE, ServicesFileError
from buildorch.services import Service, decode, examine, parse

HEAD = "version: 1\nproject: shop\n"


def problems(text: str, **variables: str) -> list[str]:
    """Every problem of a text, as it is shown."""
    with pytest.raises(ServicesFileError) as caught:
        parse(text, "f.yaml", variables=variables)
    assert caught.value.exit_code == EXIT_USAGE
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("services", "problem"),
    [
        ("  app: {tragte: x}", "f.yaml:4:9: unknown key 'tragte' (did you mean 'target'?)"),
        ("  app:\n    zzz: x", "f.yaml:5:5: unknown key 'zzz' (known keys: image, registry, context, "),
        ("  app: {size: {maxx: 1}}", "f.yaml:4:16: unknown key 'maxx' (did you mean 'max'?)"),
        ("  app: {policy: {usr: x}}", "f.yaml:4:18: unknown key 'usr' (did you mean 'user'?)"),
        ("  app: {secrets: [{id: a, fil: b}]}", "f.yaml:4:27: unknown key 'fil' (did you mean 'file'?)"),
        ("  app: {attestations: {sbon: yes}}", "f.yaml:4:24: unknown key 'sbon' (did you mean 'sbom'?)"),
        ("  app: {target: a, target: b}", "f.yaml:4:20: the key 'target' is given twice (it stands first on line 4)"),
        (
            "  app:\n    args: {A: 1}\n    tags: [x]\n    args: {B: 1}",
            "f.yaml:7:5: the key 'args' is given twice (it stands first on line 5)",
        ),
        ("  app: {args: {A: 1, A: 2}}", "f.yaml:4:22: the key 'A' is given twice (it stands first on line 4)"),
        ("  app: {}\n  app: {}", "f.yaml:5:3: the key 'app' is given twice (it stands first on line 4)"),
        ("  app: {secrets: [{file: a}]}", "f.yaml:4:19: the key 'id' is missing"),
        ("  app: {tags: x}", "f.yaml:4:15: a list was expected, for services.app.tags"),
        ("  app: {args: [A=1]}", "f.yaml:4:15: a mapping was expected, for services.app.args"),
        ("  app: [x]", "f.yaml:4:8: a mapping was expected, for services.app"),
        ("  app: text", "f.yaml:4:8: a mapping was expected, for services.app"),
        ("  app: {target: [x]}", "f.yaml:4:17: a text was expected, for services.app.target"),
        ("  app: {target: ''}", "f.yaml:4:17: this must not be empty, for services.app.target"),
        ("  app: {retries: many}", "f.yaml:4:18: a whole number was expected, for services.app.retries"),
        ("  app: {retries: 11}", "f.yaml:4:18: services.app.retries: Input should be less than or equal to 10"),
        (
            "  app: {attestations: {sbom: maybe}}",
            "f.yaml:4:30: true or false was expected, for services.app.attestations.sbom",
        ),
        ("  app: {network: bridge}", "f.yaml:4:18: default, none or host was expected, for services.app.network"),
        ("  app: {policy: {off: {usr: x}}}", "f.yaml:4:24: there is no rule 'usr' (did you mean 'user'?)"),
        (
            "  app: {policy: {off: {zzz: x}}}",
            "f.yaml:4:24: there is no rule 'zzz' (the rules are: size, user, stages, ",
        ),
        ("  app: {policy: {off: {min_stages: x}}}", "f.yaml:4:24: there is no rule 'min_stages' ("),
        ("  app: {policy: {off: {user: ''}}}", "f.yaml:4:30: this must not be empty, for services.app.policy.off.user"),
        ("  app: {policy: {off: {user: }}}", "f.yaml:4:29: a text was expected, for services.app.policy.off.user"),
        ("  app: {policy: {user: root}}", "f.yaml:4:24: non-root was expected, for services.app.policy.user"),
        ("  app: {size: {max: much}}", "f.yaml:4:21: a size such as 500MB or 64MiB was expected"),
        ("  app: {size: {max: 0}}", "f.yaml:4:21: services.app.size.max: Input should be greater than or equal to 1"),
        ("  app: {timeout: soon}", "f.yaml:4:18: a duration such as 20m, 90s or 1h30m was expected"),
        ("  app: {timeout: 0}", "f.yaml:4:18: services.app.timeout: Input should be greater than 0"),
        (
            "  app: {platforms: [linux/arm46]}",
            "f.yaml:4:21: 'linux/arm46' is not a platform that is known: 'arm46' (did you mean 'arm64'?)",
        ),
        ("  app: {platforms: [linux]}", "f.yaml:4:21: 'linux' is not a platform (write it as linux/amd64 or"),
        ("  app: {image: UPPER}", "f.yaml:4:16: 'UPPER' is not an image reference (write it as"),
        ("  app: {tags: ['{sha}']}", "f.yaml:4:16: there is no placeholder {sha}: there are {git_sha} {git_branch}"),
        ("  app: {tags: [ok, -x]}", "f.yaml:4:20: a tag has letters, digits, _ . and -, at most 128"),
        (f"  app: {{tags: [{'x' * 129}]}}", "f.yaml:4:16: a tag has letters, digits, _ . and -, at most 128"),
        ("  app: {tags: [buildorch-staging]}", "f.yaml:4:16: buildorch-staging is what buildorch itself pushes under"),
        ("  app: {tags: [x, x]}", "f.yaml:4:15: a tag is given twice"),
        ("  app: {buildx: [shm-size]}", "f.yaml:4:18: a buildx flag such as --shm-size=1g was expected"),
        ("  app: {buildx: [--push]}", "f.yaml:4:18: --push is set by buildorch itself"),
        ("  app: {buildx: [--output=x]}", "f.yaml:4:18: --output is set by buildorch itself"),
        ("  App: {}", "f.yaml:4:3: 'App' is not a name that can be used here"),
        (
            "  app: {contexts: {b: service:bass}}\n  base: {}",
            "f.yaml:4:23: there is no service 'bass' (did you mean 'base'?)",
        ),
        ("  app: {contexts: {b: service:other}}", "f.yaml:4:23: there is no service 'other'"),
        (
            "  app: {contexts: {b: service:app}}",
            "f.yaml:4:9: the services build on each other in a circle: app -> app",
        ),
        ("  app: {image: x}\n  web: {image: x}", "f.yaml:5:3: the service 'app' gives the tag x:latest too"),
        ("  app:\n    target: ${UNSET}", "f.yaml:5:13: the variable UNSET is not set: set it, or give a default"),
        ('  app: {target: "${UNSET}"}', "f.yaml:4:17: the variable UNSET is not set: set it, or give a default"),
        ('  app: {target: "a$"}', "f.yaml:4:17: a lone $ in 'a$': write $$ for a dollar sign"),
        ("  app: {target: *nowhere}", "f.yaml:4:17: the alias *nowhere has no anchor before it"),
        ("  app: &a {target: *a}", "f.yaml:4:20: the alias *a has no anchor before it"),
        ("  app: {<<: 3}", "f.yaml:4:9: << takes a mapping or a list of mappings"),
        ("  app: {[a]: 3}", "f.yaml:4:9: a key must be a text, this is a list"),
        ("  app: {? : 3}", "f.yaml:4:10: a key must be a text, this is null"),
        ("  app: {target: [}", "f.yaml:4:18: this is not YAML: while parsing a flow node"),
        ("  app:\n\ttarget: x", "f.yaml:5:1: this is not YAML: while scanning for the next token"),
        ('  app: {target: "\\UFFFFFFFF"}', "f.yaml:4:1: this is not YAML: "),
    ],
)
def test_a_problem_is_shown_at_its_line_and_column_with_the_next_step(services: str, problem: str):
    found = problems(f"{HEAD}services:\n{services}\n")

    assert any(one.startswith(problem) for one in found), found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "f.yaml:1:1: the file is empty: a mapping with version, project and services was expected"),
        ("\n# nothing\n", "f.yaml:1:1: the file is empty"),
        ("---\n", "f.yaml:2:1: this is null: a mapping with"),
        ("- a\n- b\n", "f.yaml:1:1: this is a list: a mapping with version, project and services was expected"),
        ("just words\n", "f.yaml:1:1: this is a text: a mapping with"),
        (f"{HEAD}services: {{app: }}\n---\n{HEAD}", "f.yaml:4:1: a second document starts here (keep one document"),
        ("project: shop\nservices: {app: }", "f.yaml:1:1: the key 'version' is missing"),
        ("version: 1\nservices: {app: }", "f.yaml:1:1: the key 'project' is missing"),
        (HEAD, "f.yaml:1:1: the key 'services' is missing"),
        (f"{HEAD}services: {{}}", "f.yaml:3:11: at least one entry was expected, for services"),
        (f"{HEAD}services:\n\n\n", "f.yaml:3:1: a mapping was expected, for services"),
        (f"{HEAD}services: ~", "f.yaml:3:11: a mapping was expected, for services"),
        (f"{HEAD}service: {{app: }}", "f.yaml:3:1: unknown key 'service' (did you mean 'services'?)"),
        ("version: 2\nproject: shop\nservices: {app: }", "f.yaml:1:10: 1 was expected, for version"),
        ("version: 1\nproject: My Shop\nservices: {app: }", "f.yaml:2:10: 'My Shop' is not a name that can be used"),
        (f"{HEAD}defaults: {{tragte: x}}\nservices: {{app: }}", "f.yaml:3:12: unknown key 'tragte' (did you mean"),
        (f"{HEAD}defaults: {{tags: 1}}\nservices: {{app: }}", "f.yaml:3:18: a list was expected, for defaults.tags"),
        ("%YAML 1.9\n---\nversion: 1", "f.yaml:1:1: this is not YAML: "),
        ("version: 1\nproject: a\0b", "f.yaml:2:11: this is not text: it holds control characters"),
        ("version: 1\nproject: a\x1b[31m", "f.yaml:2:11: this is not text: it holds control characters"),
    ],
)
def test_a_file_that_is_not_a_services_file_is_refused_at_the_place_that_shows_it(text: str, problem: str):
    found = problems(text)

    assert any(one.startswith(problem) for one in found), found


def test_every_problem_of_a_file_is_reported_in_one_run_in_the_files_order():
    found = problems(
        "version: 3\n"
        "project: Bad Name\n"
        "defaults: {retires: 2}\n"
        "services:\n"
        "  app:\n"
        "    tags: [x]\n"
        "    tags: [y]\n"
        "    contexts: {b: service:nowhere}\n"
        "  web:\n"
        "    timeout: later\n"
        '    target: "${STAGE}"\n'
        "    colour: red\n"
    )

    assert [problem.split(": ")[0] for problem in found] == [
        "f.yaml:1:10",
        "f.yaml:2:10",
        "f.yaml:3:12",
        "f.yaml:7:5",
        "f.yaml:10:14",
        "f.yaml:11:13",
        "f.yaml:12:5",
    ]


def test_what_lies_between_services_is_reported_beside_what_is_wrong_in_another_service():
    found = problems(
        f"{HEAD}services:\n  app: {{contexts: {{b: service:bsae}}}}\n  base: {{}}\n  broken: {{colour: red}}\n"
    )

    keys = ", ".join(Service.model_fields)
    assert found == [
        "f.yaml:4:23: there is no service 'bsae' (did you mean 'base'?)",
        f"f.yaml:6:12: unknown key 'colour' (known keys: {keys})",
    ]


def test_a_service_that_is_wrong_itself_is_still_one_that_others_may_build_on():
    found = problems(f"{HEAD}services:\n  app: {{contexts: {{b: service:base}}}}\n  base: {{colour: red}}\n")

    assert len(found) == 1


def test_a_circle_is_named_in_the_order_of_building_on_each_other():
    [found] = problems(
        f"{HEAD}services:\n"
        "  a: {contexts: {x: service:b}}\n"
        "  b: {contexts: {x: service:c}}\n"
        "  c: {contexts: {x: service:a}}\n"
        "  d: {contexts: {x: service:a}}\n"
    )

    named = found.partition("in a circle: ")[2].split(" -> ")
    assert named[0] == named[-1]
    assert "".join(named[:-1]) in {"abc", "bca", "cab"}


def test_the_same_problem_seen_through_an_alias_is_said_once():
    found = problems(f'{HEAD}x-a: &a {{target: "${{UNSET}}"}}\nservices:\n  app: *a\n  web: *a\n')

    assert found == [
        "f.yaml:3:18: the variable UNSET is not set: set it, or give a default with ${UNSET:-default}",
    ]


def test_bytes_that_are_not_utf8_are_refused_at_their_place():
    with pytest.raises(ServicesFileError) as caught:
        decode(b"version: 1\nproject: caf\xe9\n", "f.yaml")

    assert str(caught.value) == "f.yaml:2:13: this is not UTF-8 text (is it a services file at all?)"


def test_a_compiled_program_is_refused_with_one_clear_problem():
    with pytest.raises(ServicesFileError) as caught:
        parse(decode(b"\x7fELF\x02\x01\x01" + bytes(100), "f.yaml"), "f.yaml")

    assert [str(problem) for problem in caught.value.problems] == [
        "f.yaml:1:1: this is not text: it holds control characters"
    ]


def test_services_that_are_whole_are_known_even_where_the_file_is_not():
    parsed = examine(f"{HEAD}services:\n  app: {{target: a}}\n  web: {{colour: red}}\n", "f.yaml")

    assert parsed.file is None
    assert {name: service.target for name, service in parsed.whole.items()} == {"app": "a"}


def test_two_services_may_bear_the_same_tag_under_different_images():
    parse(f"{HEAD}services: {{app: {{tags: [x]}}, web: {{tags: [x]}}}}", "f.yaml")


def test_a_list_whose_entries_are_all_wrong_is_not_said_to_be_empty():
    text = f"{HEAD}services: {{app: {{tags: ['{{sha}}', '{{nope}}']}}}}"

    with pytest.raises(ServicesFileError) as caught:
        parse(text, "f.yaml")

    assert [problem.message.partition(":")[0] for problem in caught.value.problems] == [
        "there is no placeholder {sha}",
        "there is no placeholder {nope}",
    ]
