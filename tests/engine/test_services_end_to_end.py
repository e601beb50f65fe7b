"""The three built images together: one list of tasks behind four doors, and how each image behaves in production.

`service_images` maps a service's name to a reference the engine has. The containers run as a cluster would run them:
no capabilities, a read-only root filesystem, and a small tmpfs where the backend keeps its database.
"""

import contextlib
import html.parser
import json
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

pytestmark = pytest.mark.engine

REPOSITORY = Path(__file__).parents[2]
PORTS = {"backend": 8000, "frontend-web": 3000, "frontend-chatbot": 3000}
USERS = {"backend": "10001", "frontend-web": "1001", "frontend-chatbot": "1001"}
START_SECONDS = 60
NOBODY_LISTENS = "http://127.0.0.1:65000"


def attempt(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a docker command, whatever comes of it."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=600)


def docker(*arguments: str) -> str:
    """Run a docker command that must succeed and return what it printed, without the last line end."""
    done = attempt(*arguments)
    assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout.rstrip("\n")


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


def send(method: str, url: str, body: bytes | None = None, /, **headers: str) -> Answer:
    """One HTTP request past any proxy; every status is an answer, redirects are followed."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named, method=method)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return Answer(response.status, response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode())


def send_json(method: str, url: str, body: object, **headers: str) -> Answer:
    return send(method, url, json.dumps(body).encode(), content_type="application/json", **headers)


# --- the containers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Containers:
    """The containers and the network of one test module; `remove` leaves nothing of them."""

    images: Mapping[str, str]
    prefix: str = field(default_factory=lambda: f"buildorch-e2e-{uuid.uuid4().hex[:8]}")
    names: list[str] = field(default_factory=list)

    def start(self, service: str, *options: str) -> str:
        """Start a service of its own on the network and return its container's name."""
        name = f"{self.prefix}-{len(self.names)}-{service}"
        self.names.append(name)
        docker(
            "run", "--detach", "--pull=never", f"--name={name}", f"--network={self.prefix}",
            "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp",
            f"--publish=127.0.0.1::{PORTS[service]}", "--health-start-interval=1s",
            *options, self.images[service],
        )  # fmt: skip
        return name

    def start_backend(self) -> str:
        user = USERS["backend"]
        tmpfs = f"--tmpfs=/var/lib/tasks:uid={user},gid={user},mode=0700"
        return self.start("backend", tmpfs, "--network-alias=backend")

    def remove(self) -> None:
        for name in self.names:
            print(f"--- {name}\n{last_lines(name)}")  # shown by pytest when a test failed
            attempt("rm", "--force", "--volumes", name)
        docker("network", "rm", self.prefix)


def last_lines(container: str) -> str:
    """The end of what a container printed, if there is such a container."""
    logs = attempt("logs", "--tail=20", container)
    return f"{logs.stdout}{logs.stderr}"


def url_of(container: str, *, health: int = 200) -> str:
    """Where the container's one port is published, once its /health answers `health` there."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and docker("inspect", "--format={{.State.Running}}", container) == "true":
        url = f"http://{docker('port', container).split(' -> ')[1].splitlines()[0]}"
        with contextlib.suppress(OSError):
            if send("GET", f"{url}/health").status == health:
                return url
        time.sleep(0.2)
    pytest.fail(f"{container}'s /health did not answer {health} in {START_SECONDS} s:\n{last_lines(container)}")


@pytest.fixture(scope="module")
def containers(service_images: Mapping[str, str]) -> Iterator[Containers]:
    started = Containers(service_images)
    try:
        docker("network", "create", started.prefix)
        yield started
    finally:
        started.remove()


@pytest.fixture(scope="module")
def names(containers: Containers) -> dict[str, str]:
    """The container of each service, on one network; the frontends know the backend by its default name."""
    return {
        "backend": containers.start_backend(),
        "frontend-web": containers.start("frontend-web"),
        "frontend-chatbot": containers.start("frontend-chatbot"),
    }


@pytest.fixture(scope="module")
def urls(names: dict[str, str]) -> dict[str, str]:
    return {service: url_of(container) for service, container in names.items()}


# --- the doors --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    number: int
    title: str
    done: bool


class Door(Protocol):
    """One way to the tasks."""

    def add(self, title: str) -> None: ...
    def tasks(self) -> set[Task]: ...
    def complete(self, number: int) -> None: ...
    def delete(self, number: int) -> None: ...


def as_task(fields: Mapping[str, Any]) -> Task:
    return Task(fields["id"], fields["title"], fields["done"])


@dataclass(frozen=True)
class Rest:
    url: str

    def add(self, title: str) -> None:
        assert send_json("POST", f"{self.url}/tasks", {"title": title}).status == 201

    def tasks(self) -> set[Task]:
        return {as_task(fields) for fields in send("GET", f"{self.url}/tasks").json()}

    def complete(self, number: int) -> None:
        assert send_json("PATCH", f"{self.url}/tasks/{number}", {"done": True}).status == 200

    def delete(self, number: int) -> None:
        assert send("DELETE", f"{self.url}/tasks/{number}").status == 204


@dataclass(frozen=True)
class Mcp:
    url: str

    def call(self, tool: str, **arguments: object) -> Any:
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        answer = send_json("POST", f"{self.url}/mcp", call, accept="application/json, text/event-stream")
        result = answer.json()["result"]
        assert not result["isError"], result
        return result["structuredContent"]

    def add(self, title: str) -> None:
        self.call("add_task", title=title)

    def tasks(self) -> set[Task]:
        return {as_task(fields) for fields in self.call("list_tasks")["result"]}

    def complete(self, number: int) -> None:
        self.call("complete_task", task_id=number)

    def delete(self, number: int) -> None:
        self.call("delete_task", task_id=number)


@dataclass
class Form:
    """A form of a page: what it would send, and what its button is called."""

    fields: dict[str, str] = field(default_factory=dict)
    button: str = ""


class Page(html.parser.HTMLParser):
    """The forms of a page and its alerts, as a person who cannot see it is told of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.alerts: list[str] = []
        self._inside: Callable[[str], None] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form())
        elif tag == "input":
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "button":
            self.forms[-1].button = given.get("aria-label", "")
            self._inside = self._name_button
        elif given.get("role") == "alert":
            self._inside = self.alerts.append

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside:
            self._inside(data)

    def _name_button(self, text: str) -> None:
        self.forms[-1].button = self.forms[-1].button or text

    def form(self, button: str) -> Form:
        [form] = [form for form in self.forms if form.button == button]
        return form


@dataclass(frozen=True)
class Web:
    """The page as a browser without JavaScript uses it: its server actions are plain forms then."""

    url: str

    def page(self) -> Page:
        return Page(send("GET", f"{self.url}/").text)

    def submit(self, form: Form, *, origin: str | None = None, **fields: str) -> Page:
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in {**form.fields, **fields}.items()
        ]
        body = f"{''.join(parts)}--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        return Page(send("POST", f"{self.url}/", body, content_type=kind, origin=origin or self.url).text)

    def add(self, title: str) -> None:
        page = self.submit(self.page().form("Add"), title=title)
        assert page.alerts == []

    def tasks(self) -> set[Task]:
        forms = self.page().forms
        still_open = {form.fields["id"] for form in forms if form.button.startswith("Complete: ")}
        return {
            Task(int(form.fields["id"]), form.button.removeprefix("Delete: "), form.fields["id"] not in still_open)
            for form in forms
            if form.button.startswith("Delete: ")
        }

    def press(self, label: str, number: int) -> None:
        [form] = [
            form
            for form in self.page().forms
            if form.button.startswith(f"{label}: ") and form.fields["id"] == str(number)
        ]
        assert self.submit(form).alerts == []

    def complete(self, number: int) -> None:
        self.press("Complete", number)

    def delete(self, number: int) -> None:
        self.press("Delete", number)


@dataclass(frozen=True)
class Chat:
    url: str

    def say(self, message: str) -> str:
        answer = send_json("POST", f"{self.url}/api/chat", {"message": message})
        assert answer.status == 200, answer
        reply: str = answer.json()["reply"]
        return reply

    def add(self, title: str) -> None:
        assert self.say(f"add {title}").startswith("Added ")

    def tasks(self) -> set[Task]:
        lines = [line.partition(". ") for line in self.say("list").splitlines()]
        return {
            Task(int(number), text.removesuffix(" (done)"), text.endswith(" (done)"))
            for number, dot, text in lines
            if dot and number.isdigit()
        }

    def complete(self, number: int) -> None:
        assert self.say(f"done {number}").startswith("Done: ")

    def delete(self, number: int) -> None:
        assert self.say(f"delete {number}") == f"Deleted {number}."


@pytest.fixture(scope="module")
def doors(urls: dict[str, str]) -> dict[str, Door]:
    return {
        "REST": Rest(urls["backend"]),
        "MCP": Mcp(urls["backend"]),
        "page": Web(urls["frontend-web"]),
        "chat": Chat(urls["frontend-chatbot"]),
    }


# --- one list of tasks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["REST", "MCP", "page", "chat"])
def test_task_added_completed_and_deleted_through_one_door_is_so_behind_every_door(
    doors: dict[str, Door], through: str
) -> None:
    title = f"buy <b>milk</b> & «bread» by {through} 🥛"

    def seen() -> dict[str, list[Task]]:
        return {name: [task for task in door.tasks() if task.title == title] for name, door in doors.items()}

    doors[through].add(title)
    [added] = seen()[through]
    assert seen() == {name: [Task(added.number, title, done=False)] for name in doors}

    doors[through].complete(added.number)
    assert seen() == {name: [Task(added.number, title, done=True)] for name in doors}

    doors[through].delete(added.number)
    assert seen() == {name: [] for name in doors}


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        ("done 999999", "Sorry: there is no task 999999."),
        ("DELETE #999999", "Sorry: there is no task 999999."),
        ("done", "Which one? For example: done 3."),
        ("delete milk", "Which one? For example: delete 3."),
        ("add", "Add what? For example: add buy milk."),
        ("add " + "x" * 201, "A task has at most 200 characters."),
        ("constructor", "I know: add <what>, list, done <number>, delete <number>."),
        ("hello", "I know: add <what>, list, done <number>, delete <number>."),
    ],
)
def test_chat_says_what_is_wrong_with_a_command(urls: dict[str, str], message: str, reply: str) -> None:
    assert Chat(urls["frontend-chatbot"]).say(message) == reply


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'"list"', 400),
        (b'{"message": 7}', 400),
        (b'{"message": "  "}', 400),
        (b'{"message": "add two\\nlines"}', 400),
        (b'{"message": "add \\ud800"}', 400),
        (b'{"message": "' + b"x" * 301 + b'"}', 400),
        (b'{"message": "' + b"x" * 1_000_000 + b'"}', 413),
    ],
)
def test_chat_refuses_a_request_that_is_not_one_short_message(urls: dict[str, str], body: bytes, status: int) -> None:
    answer = send("POST", f"{urls['frontend-chatbot']}/api/chat", body, content_type="application/json")
    assert answer.status == status
    assert answer.json()["error"]


def test_chat_takes_no_form_of_another_site(urls: dict[str, str]) -> None:
    answer = send("POST", f"{urls['frontend-chatbot']}/api/chat", b'{"message": "list"}', content_type="text/plain")
    assert answer.status == 415


@pytest.mark.parametrize("title", ["   ", "x" * 201, "bell \a"])
def test_page_says_what_is_wrong_with_a_title_and_adds_nothing(doors: dict[str, Door], title: str) -> None:
    page = doors["page"]
    assert isinstance(page, Web)
    before = page.tasks()
    answered = page.submit(page.page().form("Add"), title=title)
    assert len(answered.alerts) == 1
    assert page.tasks() == before


def test_page_takes_no_form_of_another_site(urls: dict[str, str]) -> None:
    web = Web(urls["frontend-web"])
    web.submit(web.page().form("Add"), origin="http://elsewhere.example", title="not from here")
    assert "not from here" not in {task.title for task in web.tasks()}


# --- how each image behaves -------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", PORTS)
def test_every_process_runs_as_the_services_own_user(names: dict[str, str], urls: dict[str, str], service: str) -> None:
    assert urls[service]
    # A process that ends meanwhile, such as a health check, is no failure.
    status = attempt("exec", names[service], "sh", "-c", "cat /proc/[0-9]*/status").stdout
    users = {line.split("\t", 1)[1] for line in status.splitlines() if line.startswith("Uid:")}
    assert users == {"\t".join([USERS[service]] * 4)}


@pytest.mark.parametrize("service", PORTS)
def test_image_names_its_user_by_number_for_kubernetes(service_images: Mapping[str, str], service: str) -> None:
    user = docker("image", "inspect", "--format={{.Config.User}}", service_images[service])
    assert user == f"{USERS[service]}:{USERS[service]}"


@pytest.mark.parametrize("service", PORTS)
def test_the_images_own_healthcheck_finds_it_healthy(names: dict[str, str], urls: dict[str, str], service: str) -> None:
    assert urls[service]
    deadline = time.monotonic() + START_SECONDS
    while (health := docker("inspect", "--format={{.State.Health.Status}}", names[service])) == "starting":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert health == "healthy"


def test_backend_without_a_place_for_its_database_is_unhealthy(containers: Containers) -> None:
    container = containers.start("backend", "--env=DATABASE_URL=sqlite:////nowhere/tasks.db")
    url_of(container, health=503)
    assert attempt("exec", container, "python", "-m", "src.healthcheck").returncode == 1


def test_frontends_say_that_the_backend_does_not_answer_and_stay_healthy(containers: Containers) -> None:
    page = Web(url_of(containers.start("frontend-web", f"--env=BACKEND_URL={NOBODY_LISTENS}")))
    chat = url_of(containers.start("frontend-chatbot", f"--env=BACKEND_URL={NOBODY_LISTENS}"))
    message = "The task service does not answer. Try again in a moment."

    assert page.page().alerts == [message]
    assert message in page.submit(page.page().form("Add"), title="buy milk").alerts
    answer = send_json("POST", f"{chat}/api/chat", {"message": "list"})
    assert (answer.status, answer.json()) == (503, {"error": message})


@pytest.mark.parametrize("service", PORTS)
def test_service_ends_by_itself_when_it_is_told_to(containers: Containers, service: str) -> None:
    container = containers.start_backend() if service == "backend" else containers.start(service)
    url_of(container)
    docker("stop", "-t", "20", container)
    finished, ended_by_sigterm = "0", "143"
    assert docker("inspect", "--format={{.State.ExitCode}}", container) in {finished, ended_by_sigterm}


def test_the_backends_own_tests_pass_in_its_image(service_images: Mapping[str, str]) -> None:
    context = REPOSITORY / "services" / "backend"
    docker(
        "buildx", "build", "--progress=plain", "--output=type=cacheonly",
        f"--build-context=backend=docker-image://{service_images['backend']}",
        f"--file={context}/tests/Dockerfile", "--", str(context),
    )  # fmt: skip
