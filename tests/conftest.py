"""What tests share: one PostgreSQL a run, a NATS a module, databases of services, and the development issuer."""

import fcntl
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from chassis import migrate
from svyaz_cli.embedded import Nats, free_port
from svyaz_cli.issuer import Issuer
from svyaz_cli.secrets import Secrets
from svyaz_cli.services import SERVICES, bus_users
from tests import servers
from tests.platforms import RunningPlatform, running_platform
from tests.running import BEHIND_THE_GATEWAY, Api, Running

ROOT = Path(__file__).parents[1]
# Set by the process that began the run, for its workers.
_DIRECTORY = "SVYAZ_TEST_DIRECTORY"
_OWNER = "SVYAZ_TEST_OWNER"
_START_SECONDS = 60.0
# Packages whose tests begin the run, and those that end it: the longest first, so that no worker is left alone with
# them; then at the end those that `running` serves, which costs a processor something as long as it is there.
_FIRST, _LAST = ("e2e", "cli"), ("contract", "gateway")
# Files of which one worker takes all, because they share a platform.
_TOGETHER = {
    "tests/e2e/test_catalog_manager.py": "stories",
    "tests/e2e/test_erasure.py": "stories",
    "tests/e2e/test_preview.py": "stories",
    "tests/e2e/test_story.py": "stories",
    "tests/e2e/test_traces.py": "stories",
    "tests/e2e/test_demo.py": "demo",
    "tests/e2e/test_readme.py": "demo",
    "tests/cli/test_run.py": "demo",
}
# How long an example takes says more of the machine than of what is tested. Fifty find what a run will find: every run
# has others, and what one has found is tried again first.
settings.register_profile("svyaz", deadline=None, max_examples=50)
settings.load_profile("svyaz")


@dataclass(frozen=True)
class ServiceDatabase:
    """A migrated database of one service; `url` is the service's role, `owner_url` the role that owns everything."""

    name: str
    url: str
    owner_url: str
    admin_url: str


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Makes the run's directory, in the process that begins the run."""
    if not hasattr(config, "workerinput"):
        directory = tempfile.mkdtemp(prefix="svyaz-test-")
        os.environ[_DIRECTORY] = directory
        os.environ[_OWNER] = str(os.getpid())
        # Where pytest would put temporary files, its next run closes the folder to PostgreSQL's own user again.
        if config.option.basetemp is None:
            config.option.basetemp = f"{directory}/files"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the packages' tests in the order in which the workers are to take them."""
    order = {package: place for place, package in enumerate((*_FIRST, "", *_LAST))}
    items.sort(key=lambda item: order.get(item.path.relative_to(ROOT / "tests").parts[0], order[""]))


class _Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """A worker takes a file at a time, or what belongs together."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return _TOGETHER.get(file, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scheduling | None:
    """What `--dist loadfile` means here."""
    return _Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stops the run's server and removes its directory."""
    if hasattr(config, "workerinput"):
        return
    directory = Path(os.environ[_DIRECTORY])
    keeper = directory / "keeper"
    if keeper.exists():
        try:
            process = psutil.Process(int(keeper.read_text()))
            process.terminate()
            process.wait(30)
        except psutil.NoSuchProcess:
            pass
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def run_directory() -> Path:
    """A directory that all workers of this run share."""
    return Path(os.environ[_DIRECTORY])


@pytest.fixture(scope="session")
def postgres(run_directory: Path) -> str:
    """The superuser's URL of the run's PostgreSQL, which starts when the first test asks for it."""
    ready = run_directory / servers.READY
    with _locked(run_directory / "keeper.lock"):
        if not ready.exists():
            # Not with its own folder on the path, where `chassis` is a folder of tests.
            command = [sys.executable, "-P", str(Path(servers.__file__)), str(run_directory), os.environ[_OWNER]]
            keeper = os.posix_spawn(sys.executable, command, os.environ, setsid=True)
            (run_directory / "keeper").write_text(str(keeper))
            deadline = time.monotonic() + _START_SECONDS
            while not ready.exists():
                assert time.monotonic() < deadline, "PostgreSQL didn't start"
                time.sleep(0.05)
    return ready.read_text()


@pytest.fixture(scope="session")
def database_for(postgres: str, run_directory: Path, worker_id: str) -> Callable[..., ServiceDatabase]:
    """Makes a fresh migrated database of a service: `database_for("customers")`.

    `package` names another package than the service's whose migrations are wanted; `package=""` means none: an empty
    database with the service's two roles.
    """
    numbers = itertools.count(1)
    packages = {service.database: service.package for service in SERVICES if service.database}

    def make(service: str, package: str | None = None) -> ServiceDatabase:
        package = packages[service] if package is None else package
        template = f"template_{service}_{package}"
        with _locked(run_directory / f"{template}.lock"):
            if not (run_directory / template).exists():
                made = _database(postgres, service, template)
                migrate.provision(postgres, service, password="test", owner_password="test", database=template)
                if package:
                    migrate.upgrade(package, made.owner_url, service)
                (run_directory / template).touch()
            # A template admits nobody while it is copied.
            database = _database(postgres, service, f"{service}_{worker_id}_{next(numbers)}")
            migrate.copy_database(postgres, service, template, database.name)
        return database

    return make


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """A NATS server of this module's own: user (a service's name, `billing` or `admin`) -> URL."""
    directory = tmp_path_factory.mktemp("nats")
    server = Nats(directory, free_port(), Secrets(directory), notes=directory / "run", users=bus_users())
    server.launch()
    try:
        server.wait()
        yield {user: server.url(user) for user in bus_users()}
    finally:
        server.stop()


@pytest.fixture(scope="session")
def issuer(run_directory: Path) -> Issuer:
    """A development issuer: `issuer.token(["agent"], ["bishkek"])`; `issuer.environment` for a service's settings."""
    with _locked(run_directory / "issuer.lock"):
        return Issuer(run_directory / "issuer")


@pytest.fixture(scope="session")
def running(
    database_for: Callable[..., ServiceDatabase], issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """The gateway and every service behind it."""
    directory = tmp_path_factory.mktemp("gateway")
    nats = Nats(directory / "nats", free_port(), Secrets(directory), notes=directory / "run", users=bus_users())
    platform = Running(directory, issuer)
    try:
        nats.launch()
        nats.wait()
        for name in BEHIND_THE_GATEWAY:
            database = database_for(name)
            platform.databases[name] = database.admin_url
            platform.launch(name, {"DATABASE_URL": database.url, "NATS_URL": nats.url(name)})
        platform.launch("gateway", {})
        platform.wait()
        yield platform
    finally:
        platform.stop()
        nats.stop()


@pytest.fixture(scope="session")
def demo_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A whole platform with the demo operator, which first is shown and then is killed."""
    with running_platform(tmp_path_factory.mktemp("demo"), demo=True) as platform:
        yield platform


@pytest.fixture(scope="session")
def caller(running: Running, issuer: Issuer) -> Iterator[Callable[..., Api]]:
    """Makes a caller of given roles and branches."""
    made: list[Api] = []

    def make(roles: list[str], branches: list[str]) -> Api:
        made.append(Api(running.url, issuer.token(roles, branches)))
        return made[-1]

    yield make
    for api in made:
        api.client.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    """TM Forum's files and the data sets, which lie beside the repository; in CI they must be there."""
    path = Path(os.environ.get("SVYAZ_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{path} is missing")
        pytest.skip(f"{path} is missing")
    return path


def _database(admin_url: str, service: str, name: str) -> ServiceDatabase:
    def url(user: str) -> str:
        return migrate.login_url(admin_url, user=user, password="test", database=name)

    owner_url = url(migrate.owner_of(service))
    return ServiceDatabase(name, url(service), owner_url, migrate.database_url(admin_url, name))


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Holds the file's lock against the other workers."""
    with file.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
