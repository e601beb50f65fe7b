"""A trial start: what the engine is told, when it is over, what is left; and what the rule makes of it."""

from __future__ import annotations

import datetime
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from fake_containers import RUNNING, FakeContainers, ended, frames, probed, running_containers
from hypothesis import given
from hypothesis import strategies as st

from buildorch.engine import Engine
from buildorch.engine.container_api import _payloads, _users, last_lines
from buildorch.engine.containers import LABEL, PREFIX, try_start
from buildorch.engine.trial import Trial
from buildorch.errors import EngineError, EngineUnreachable, MalformedDocument
from buildorch.policy import smoke as smoke_rule
from buildorch.policy.subject import Subject
from buildorch.record import Finding
from buildorch.services import Service
from buildorch.services.model import Policy, Smoke

PROBE = {"Test": ["CMD", "check"], "Interval": 30_000_000_000, "Timeout": 7, "Retries": 9}
SOON = Smoke(timeout=0.05)


@pytest.fixture
def containers(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeContainers]:
    monkeypatch.setattr("buildorch.engine.containers.PAUSE_S", 0.001)
    monkeypatch.setattr("buildorch.engine.containers.STEADY_S", 0.0)
    monkeypatch.setattr("buildorch.engine.listening.OPEN_S", 0.02)
    with running_containers() as running:
        yield running


def tried(containers: FakeContainers, smoke: Smoke | None = None, **more: Any) -> Trial:
    trial = try_start(Engine(containers.endpoint), "app", smoke or Smoke(), **more)
    assert containers.containers == {}
    return trial


def waiting(containers: FakeContainers) -> None:
    """The image is neither well nor unwell for as long as one waits."""
    containers.config["Healthcheck"] = PROBE
    containers.states = [probed("starting")]


# --- when it is over


def test_an_image_is_well_once_its_healthcheck_passes(containers: FakeContainers):
    containers.config["Healthcheck"] = PROBE
    containers.states = [probed("starting"), probed("starting", "no"), probed("healthy")]

    trial = tried(containers)

    assert (trial.outcome, trial.uids, trial.exit_code) == ("well", (10001,), None)
    assert 0 < trial.seconds < 5


def test_an_image_whose_healthcheck_fails_for_good_is_unwell_before_the_time_is_over(containers: FakeContainers):
    containers.config["Healthcheck"] = PROBE
    containers.states = [probed("starting"), probed("unhealthy")]

    assert tried(containers).outcome == "unwell"


def test_an_image_whose_healthcheck_does_not_pass_in_time_is_unwell_with_what_it_printed(containers: FakeContainers):
    containers.config["Healthcheck"] = PROBE
    containers.states = [probed("starting", "first", "1\n2\n3\nconnection refused\n")]
    containers.log = frames("listening\n")

    trial = tried(containers, SOON)

    assert trial.outcome == "unwell"
    assert trial.seconds >= 0.05
    assert trial.log == ("listening", "HEALTHCHECK: 2", "HEALTHCHECK: 3", "HEALTHCHECK: connection refused")


@pytest.mark.parametrize("healthcheck", [None, {}, {"Test": ["NONE"]}, {"Test": None}])
def test_an_image_with_neither_healthcheck_nor_port_is_well_if_it_still_runs_after_a_while(
    containers: FakeContainers, monkeypatch: pytest.MonkeyPatch, healthcheck: object
):
    monkeypatch.setattr("buildorch.engine.containers.STEADY_S", 0.02)
    containers.config["Healthcheck"] = healthcheck

    trial = tried(containers)

    assert trial.outcome == "well"
    assert trial.seconds >= 0.02
    assert containers.made[0]["Healthcheck"] == {"Test": ["NONE"]}


def test_a_timeout_that_is_shorter_than_that_while_counts(containers: FakeContainers, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("buildorch.engine.containers.STEADY_S", 60.0)

    assert tried(containers, SOON).outcome == "well"


@pytest.mark.parametrize("exit_code", [3, 0])
def test_an_image_that_ends_is_not_well_whatever_its_exit_code(containers: FakeContainers, exit_code: int):
    containers.config["Healthcheck"] = PROBE
    containers.states = [probed("starting"), ended(exit_code)]
    containers.log = frames("starting\n") + frames("no database\n", stream=2)

    trial = tried(containers)

    assert (trial.outcome, trial.exit_code) == ("ended", exit_code)
    assert trial.log == ("starting", "no database")


def test_an_image_that_ended_between_two_looks_is_not_well_though_its_healthcheck_had_passed(
    containers: FakeContainers,
):
    containers.config["Healthcheck"] = PROBE
    containers.states = [probed("starting"), {**probed("healthy"), **ended(1)}]

    assert tried(containers).outcome == "ended"


def test_an_image_that_was_killed_for_its_memory_says_so(containers: FakeContainers):
    containers.states = [ended(137, OOMKilled=True)]

    assert tried(containers).log == ("killed: a trial may use 1073741824 B of memory",)


def test_a_trial_of_a_run_that_is_stopped_is_given_up(containers: FakeContainers):
    waiting(containers)

    trial = tried(containers, is_stopped=lambda: True)

    assert (trial.outcome, trial.log) == ("not_tried", ("the run was stopped",))


# --- ports


@contextmanager
def listening(then: Callable[[socket.socket], None] = lambda _: None) -> Iterator[int]:
    """A port of this machine; what it does with connections it takes, which are kept until the block ends."""
    kept = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                kept.append(connection)
                with suppress(OSError):  # whoever asks may be gone already
                    then(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in kept:
        connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def at(port: int | None, *, gateway: str = "127.0.0.1") -> dict[str, Any]:
    """`NetworkSettings` of a container at 127.0.0.1, whose port 8000 is published as this one."""
    published = [{"HostIp": "127.0.0.1", "HostPort": str(port)}] if port else None
    return {
        "Ports": {"8000/tcp": published, "9/tcp": None},
        "Networks": {"bridge": {"IPAddress": "127.0.0.1", "Gateway": gateway}},
    }


ELSEWHERE = "192.0.2.1"  # TEST-NET-1 of RFC 5737: no machine's own


def test_an_image_is_well_once_its_port_takes_connections_at_the_containers_own_address(containers: FakeContainers):
    containers.config["Healthcheck"] = PROBE
    with listening() as port:
        containers.network = at(free_port())

        trial = tried(containers, Smoke(port=port))

    assert trial.outcome == "well"
    assert containers.made[0]["Healthcheck"] == {"Test": ["NONE"]}


def test_a_proxy_that_takes_connections_is_no_sign_where_the_container_itself_refuses(containers: FakeContainers):
    with listening() as proxy:
        containers.network = at(proxy)

        trial = tried(containers, Smoke(port=free_port(), timeout=0.05))

    assert trial.outcome == "no_port"


def test_where_the_bridge_is_another_machines_the_published_port_counts_if_it_is_kept_open(containers: FakeContainers):
    with listening() as proxy:
        containers.network = at(proxy, gateway=ELSEWHERE)

        assert tried(containers, Smoke(port=free_port())).outcome == "well"


def test_a_published_port_that_speaks_first_and_closes_takes_connections(containers: FakeContainers):
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        connection.shutdown(socket.SHUT_RDWR)

    with listening(greet) as proxy:
        containers.network = at(proxy, gateway=ELSEWHERE)

        assert tried(containers, Smoke(port=free_port())).outcome == "well"


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("close", [socket.socket.close, reset])
def test_a_published_port_that_closes_at_once_is_one_on_which_nothing_listens(
    containers: FakeContainers, monkeypatch: pytest.MonkeyPatch, close: Callable[[socket.socket], None]
):
    monkeypatch.setattr("buildorch.engine.listening.OPEN_S", 5.0)
    with listening(close) as proxy:
        containers.network = at(proxy, gateway=ELSEWHERE)

        assert tried(containers, Smoke(port=free_port(), timeout=0.05)).outcome == "no_port"


@pytest.mark.parametrize("published", [True, False])
def test_a_port_to_which_no_way_leads_is_not_tried_rather_than_found_shut(
    containers: FakeContainers, *, published: bool
):
    containers.network = at(free_port() if published else None, gateway=ELSEWHERE)

    trial = tried(containers, Smoke(port=8000, timeout=0.05))

    assert (trial.outcome, trial.uids) == ("not_tried", ())
    assert trial.log == ("the port cannot be looked at: no way leads from here to the container",)


@pytest.mark.parametrize(
    "info",
    [{"OperatingSystem": "Docker Desktop"}, {"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}],
)
def test_an_address_inside_of_a_virtual_machine_is_not_taken_for_one_of_this_machine(
    containers: FakeContainers, info: dict[str, Any]
):
    containers.info = info
    with listening() as another:
        containers.network = at(None)

        assert tried(containers, Smoke(port=another, timeout=0.05)).outcome == "not_tried"


def test_a_port_on_another_machine_is_not_tried_and_no_container_made():
    with running_containers(over_tcp=True) as far:
        trial = tried(far, Smoke(port=8000))

        assert trial.outcome == "not_tried"
        assert far.made == []
        assert trial.log == (f"the port cannot be looked at: it is on another machine, the engine's at {far.endpoint}",)


def test_a_healthcheck_can_be_asked_on_another_machine():
    with running_containers(over_tcp=True) as far:
        far.config["Healthcheck"] = PROBE
        far.states = [probed("healthy")]

        assert tried(far).outcome == "well"


# --- what the engine is told


def test_a_container_has_no_privileges_and_no_network(containers: FakeContainers):
    tried(containers)

    [made] = containers.made
    host = made["HostConfig"]
    assert made["Image"] == "app"
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])
    assert host["NetworkMode"] == "none"
    assert (made["ExposedPorts"], host["PortBindings"]) == ({}, {})
    assert 0 < host["PidsLimit"] <= 512
    assert 0 < host["Memory"] <= 1 << 30
    assert host["LogConfig"]["Config"]["max-size"] == "1m"
    assert (host["ReadonlyRootfs"], host["Tmpfs"]) == (False, {})
    assert host.keys() & {"Privileged", "CapAdd", "Binds", "Mounts", "PidMode", "IpcMode", "Devices"} == set()


def test_a_root_file_system_that_is_to_be_read_only_leaves_tmp_to_write_to(containers: FakeContainers):
    tried(containers, Smoke(read_only=True))

    host = containers.made[0]["HostConfig"]
    assert (host["ReadonlyRootfs"], host["Tmpfs"]) == (True, {"/tmp": ""})


def test_a_port_is_published_for_this_machine_alone(containers: FakeContainers):
    tried(containers, Smoke(port=8000, timeout=0.01))

    [made] = containers.made
    assert made["ExposedPorts"] == {"8000/tcp": {}}
    assert made["HostConfig"]["PortBindings"] == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    assert made["HostConfig"]["NetworkMode"] == "bridge"


def test_a_healthcheck_is_the_images_own_asked_often_and_with_patience(containers: FakeContainers):
    containers.config["Healthcheck"] = PROBE
    containers.states = [probed("healthy")]

    tried(containers, Smoke(timeout=90))

    assert containers.made[0]["Healthcheck"] == {
        "Test": ["CMD", "check"],
        "Timeout": 7,
        "Retries": 9,
        "Interval": 1_000_000_000,
        "StartInterval": 500_000_000,
        "StartPeriod": 90_000_000_000,
    }


@pytest.mark.parametrize(
    ("said", "given", "why"),
    [
        ("linux/arm64", "amd64", "the image is for linux/arm64, and the engine runs linux/amd64"),
        ("linux/arm/v7", "amd64", "the image is for linux/arm/v7, and the engine runs linux/amd64"),
        ("windows/amd64", "amd64", "the image is for windows/amd64, and the engine runs linux/amd64"),
        ("", "riscv64", "the image is for linux/riscv64, and the engine runs linux/amd64"),
    ],
)
def test_an_image_of_another_platform_is_not_tried_and_no_container_made(
    containers: FakeContainers, said: str, given: str, why: str
):
    containers.architecture = given

    trial = tried(containers, platform=said)

    assert (trial.outcome, trial.log, containers.made) == ("not_tried", (why,), [])


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/amd64/v2", ""])
def test_an_image_of_the_engines_own_platform_is_tried(containers: FakeContainers, platform: str):
    assert tried(containers, platform=platform).outcome == "well"


# --- which users


def test_every_user_that_was_seen_is_told_also_one_of_the_beginning(containers: FakeContainers):
    containers.processes = [[["100", "1", "0"]], [["100", "1", "33"], ["101", "100", "5"], ["102", "101", "44"]]]

    assert tried(containers).uids == (0, 5, 33, 44)


def test_a_healthcheck_that_is_just_being_started_is_no_process_of_the_image(containers: FakeContainers):
    # runc joins the container as root before it becomes the user: a child of the shim, not of the first process.
    containers.processes = [[["100", "1", "10001"], ["150", "1", "0"], ["151", "150", "0"], ["101", "100", "7"]]]

    assert tried(containers).uids == (7, 10001)


@pytest.mark.parametrize("rows", [None, [["100", "?", "root"]], [["100", "1"]]])
def test_where_processes_cannot_be_listed_no_user_is_told(containers: FakeContainers, rows: list[list[str]] | None):
    containers.processes = [rows]

    trial = tried(containers)

    assert (trial.outcome, trial.uids) == ("well", ())


def test_a_proxy_before_the_engine_that_forbids_to_list_processes_is_as_good_as_no_list(containers: FakeContainers):
    containers.refuses["top"] = (403, b"<html><body>403 Forbidden</body></html>")

    assert (tried(containers).outcome, tried(containers).uids) == ("well", ())


def test_where_users_have_other_numbers_outside_none_is_told(containers: FakeContainers):
    containers.info = {"SecurityOptions": ["name=seccomp,profile=builtin", "name=userns"]}
    containers.processes = [[["100", "1", "100000"]]]

    assert tried(containers).uids == ()


def test_processes_that_come_from_each_other_in_a_circle_are_counted_once():
    assert _users([["1", "2", "7"], ["2", "1", "8"], ["3", "3", "9"]], 1) == {7, 8}


# --- what the engine refuses


def test_an_image_that_the_engine_does_not_have_ended_with_the_engines_words(containers: FakeContainers):
    containers.image = "another"

    assert tried(containers) == Trial("ended", log=("No such image: app",))


@pytest.mark.parametrize("status", [400, 404])
def test_a_container_that_the_image_does_not_allow_ended_with_the_engines_words(
    containers: FakeContainers, status: int
):
    containers.refuses["create"] = (status, "no command specified")

    assert tried(containers) == Trial("ended", log=("no command specified",))


@pytest.mark.parametrize(("status", "exit_code"), [(500, 128), (400, 127)])
def test_a_container_that_cannot_start_ended_with_the_engines_words(
    containers: FakeContainers, status: int, exit_code: int
):
    containers.refuses["start"] = (status, "unable to find user app: no matching entries in passwd file")
    containers.states = [ended(exit_code)]

    trial = tried(containers)

    assert (trial.outcome, trial.exit_code) == ("ended", exit_code)
    assert trial.log == ("unable to find user app: no matching entries in passwd file",)


@pytest.mark.parametrize("status", [403, 500])
def test_an_engine_that_can_make_no_container_at_all_is_an_error(containers: FakeContainers, status: int):
    containers.refuses["create"] = (status, "no space left on device")

    with pytest.raises(EngineError, match="does not make a container: no space left on device"):
        tried(containers)


def test_an_engine_that_is_not_there_is_an_error():
    with pytest.raises(EngineUnreachable, match="there is no such socket"):
        try_start(Engine("unix:///nonexistent/x.sock"), "app", Smoke())


# --- what is left


@pytest.mark.parametrize(
    ("refused", "states"),
    [
        ("json", [probed("starting")]),
        ("nothing", [{}]),
        ("nothing", [{**RUNNING, "Pid": "x"}]),
        ("nothing", [{**RUNNING, "Health": {"Log": [1]}}]),
    ],
)
def test_the_container_is_gone_also_when_the_engine_fails_or_speaks_nonsense(
    containers: FakeContainers, refused: str, states: list[dict[str, Any]]
):
    containers.config["Healthcheck"] = PROBE
    containers.states = states

    def refuse() -> bool:
        containers.refuses[refused] = (500, "a bad day")
        return False

    with pytest.raises(EngineError, match=r"a bad day|malformed container of the engine"):
        try_start(Engine(containers.endpoint), "app", Smoke(), is_stopped=refuse)

    assert len(containers.made) == 1
    assert containers.containers == {}


def test_the_container_is_gone_after_an_interrupt(containers: FakeContainers):
    waiting(containers)

    def interrupt() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        try_start(Engine(containers.endpoint), "app", Smoke(), is_stopped=interrupt)

    assert len(containers.made) == 1
    assert containers.containers == {}


def test_a_container_that_somebody_else_removed_is_an_error_that_names_it(containers: FakeContainers):
    waiting(containers)

    def remove() -> bool:
        containers.containers.clear()
        return False

    with pytest.raises(EngineError, match=f"does not tell of {PREFIX}[0-9a-f]+: No such container"):
        tried(containers, is_stopped=remove)


def test_a_container_that_cannot_be_removed_is_an_error_that_names_it(containers: FakeContainers):
    containers.refuses["DELETE"] = (500, "device is busy")

    with pytest.raises(EngineError, match=f"does not remove the container {PREFIX}[0-9a-f]+: device is busy"):
        try_start(Engine(containers.endpoint), "app", Smoke())


def left(containers: FakeContainers, name: str, *, age_s: float, label: str | None = "60.0") -> None:
    """A container that is there before the trial."""
    containers.containers[name] = {"Labels": {} if label is None else {LABEL: label}}
    containers.created[name] = time.time() - age_s


def test_containers_of_killed_runs_are_removed_and_no_others(containers: FakeContainers):
    left(containers, f"{PREFIX}old", age_s=3700)
    left(containers, f"{PREFIX}odd", age_s=3700, label="soon")
    left(containers, f"{PREFIX}young", age_s=3500)
    left(containers, f"{PREFIX}patient", age_s=3700, label="7200.0")
    left(containers, "of-an-image-with-the-label", age_s=10**6, label="1")
    left(containers, f"{PREFIX}without-the-label", age_s=10**6, label=None)

    trial = try_start(Engine(containers.endpoint), "app", Smoke())

    assert trial.outcome == "well"
    assert list(containers.containers) == [
        f"{PREFIX}young",
        f"{PREFIX}patient",
        "of-an-image-with-the-label",
        f"{PREFIX}without-the-label",
    ]


def test_a_trials_own_container_is_marked_as_one_with_its_timeout(containers: FakeContainers):
    tried(containers, Smoke(timeout=90))

    assert containers.made[0]["Labels"] == {LABEL: "90.0"}
    [name] = {path.split("/")[2] for path in containers.asked if path.endswith("/start")}
    assert name.startswith(PREFIX)


# --- logs


def test_of_a_log_the_last_20_lines_are_kept_each_cut_after_500_characters(containers: FakeContainers):
    containers.states = [ended(1)]
    containers.log = frames(*(f"line {number}\n" for number in range(30)), "x" * 600)

    log = tried(containers).log

    assert len(log) == 20
    assert (log[0], log[-1]) == ("line 11", "x" * 500)


def test_a_line_of_several_writes_is_one_and_bytes_that_are_no_text_are_replaced(containers: FakeContainers):
    containers.states = [ended(1)]
    containers.log = frames("a ", "line\r\n", b"\xff\x1b[31m\n", "\n", "last") + b"\x01\0\0\0\0\0\0\x09cut"

    assert tried(containers).log == ("a line", "\ufffd\x1b[31m", "", "lastcut")


def test_a_log_that_cannot_be_read_is_empty(containers: FakeContainers):
    containers.states = [ended(1)]
    containers.refuses["logs"] = (501, "configured logging driver does not support reading")

    assert tried(containers).log == ()


@given(stream=st.binary(max_size=200))
def test_any_bytes_are_read_as_a_log(stream: bytes):
    payloads = b"".join(_payloads(stream))

    assert len(payloads) <= len(stream)
    assert len(last_lines(payloads.decode("utf-8", "replace"))) <= 20


# --- a call of the Engine API


def test_a_call_sends_json_and_gives_the_answer_whatever_its_status(containers: FakeContainers):
    status, body = Engine(containers.endpoint).call("POST", "/containers/create?name=x", {"Labels": {"é": "1"}})
    missing, _ = Engine(containers.endpoint).call("GET", "/containers/y/json")

    assert (status, json.loads(body)["Id"], missing) == (201, "0123", 404)
    assert containers.made == [{"Labels": {"é": "1"}}]


def test_a_call_that_gets_no_answer_in_its_time_says_how_long_that_was(tmp_path):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()

        with pytest.raises(EngineUnreachable, match="it gave no answer within 0 s"):
            Engine(f"unix://{tmp_path}/silent.sock").call("GET", "/info", timeout_s=0.05)


def test_a_list_of_containers_that_is_none_is_refused(containers: FakeContainers):
    containers.containers["x"] = {"Labels": {LABEL: "1"}}
    containers.created["x"] = "yesterday"  # type: ignore[assignment]

    with pytest.raises(MalformedDocument, match="malformed list of containers"):
        tried(containers)


# --- the rule


def judged(
    *trials: Trial, policy: Policy | None = None, on: tuple[str, ...] = ("linux/amd64", "linux/arm64")
) -> list[Finding]:
    subject = Subject(
        spec=Service(policy=policy or Policy(smoke=Smoke(port=8000))),
        images={},
        dockerfile=None,
        today=datetime.date(2026, 1, 1),
        trials=dict(zip(on, trials, strict=False)),
    )
    return list(smoke_rule.rule(subject))


def test_an_image_that_is_well_as_somebody_else_than_root_keeps_the_rule():
    assert judged(Trial("well", 1.0, (10001, 33))) == []


def test_without_the_rule_nothing_is_judged():
    assert judged(Trial("ended", uids=(0,)), policy=Policy()) == []


def test_an_image_that_ended_is_an_error_with_its_exit_code_its_time_and_its_last_five_lines():
    trial = Trial("ended", 0.42, (10001,), 3, (*map(str, range(5)), " no", "", "database "))

    [finding] = judged(trial)

    assert (finding.rule, finding.severity) == ("smoke", "error")
    assert finding.message == (
        "linux/amd64: started without privileges, it ended with exit code 3 after 0.4s, before it was well"
    )
    assert finding.hint == "its last lines: 2 | 3 | 4 | no | database"


@pytest.mark.parametrize(
    ("trial", "said", "hint"),
    [
        (
            Trial("unwell", 60.0, (1,)),
            "it was not well after 1m00s: its HEALTHCHECK did not pass",
            "it printed nothing",
        ),
        (Trial("no_port", 5.0, (1,)), "nothing took connections on port 8000 within 5.0s", "it printed nothing"),
        (Trial("ended", log=("No such image: x",)), "it did not start", "its last lines: No such image: x"),
        (
            Trial("ended", 1.0, (1,), 0),
            "it ended with exit code 0 after 1.0s, before it was well",
            "it printed nothing",
        ),
    ],
)
def test_an_image_that_is_not_well_is_an_error_that_says_how(trial: Trial, said: str, hint: str):
    [finding] = judged(trial)

    assert (finding.severity, finding.hint) == ("error", hint)
    assert finding.message == f"linux/amd64: started without privileges, {said}"


def test_a_trial_that_was_not_made_is_a_warning_naming_why():
    [finding] = judged(Trial("not_tried", log=("the image is for linux/arm64, and the engine runs linux/amd64",)))

    assert finding.severity == "warning"
    assert finding.message == (
        "linux/amd64: a start was not tried: the image is for linux/arm64, and the engine runs linux/amd64"
    )


def test_a_process_of_root_is_an_error_though_the_image_is_well():
    [finding] = judged(Trial("well", 1.0, (0, 33)))

    assert finding.severity == "error"
    assert finding.message == "linux/amd64: a process runs as root (uid 0), others as 33"


def test_an_image_that_ended_and_ran_as_root_is_told_both():
    assert [finding.message.split(", ")[0] for finding in judged(Trial("ended", 1.0, (0,), 1))] == [
        "linux/amd64: started without privileges",
        "linux/amd64: a process runs as root (uid 0)",
    ]


def test_an_image_whose_users_are_not_known_is_a_warning_and_no_verdict():
    [finding] = judged(Trial("well", 1.0))

    assert finding.severity == "warning"
    assert "is not known" in finding.message


def test_every_platform_is_judged_by_its_own_trial():
    first, second = judged(Trial("no_port", 1.0, (1,)), Trial("not_tried", log=("why",)))

    assert first.message.startswith("linux/amd64: ")
    assert second.message.startswith("linux/arm64: ")
