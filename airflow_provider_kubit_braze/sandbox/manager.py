"""The whole sandbox as one value: local Snowflake, Braze and mailbox, started and ended together."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_kubit_braze.sandbox.certificates import Certificates, ensure_certificates
from airflow_provider_kubit_braze.sandbox.connections import (
    DATABASE,
    SCHEMA,
    SERVICES,
    SNOWFLAKE_ACCOUNT,
    SNOWFLAKE_PASSWORD,
    SNOWFLAKE_USER,
    braze_connection,
    smtp_connection,
    snowflake_connection,
)
from airflow_provider_kubit_braze.sandbox.mailbox import Mailbox
from airflow_provider_kubit_braze.sandbox.process import SandboxError, ServiceProcess, require_extra
from airflow_provider_kubit_braze.sandbox.snowflake_control import SnowflakeControl

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from types import TracebackType

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl
    from airflow_provider_kubit_braze.sandbox.campaign_life import Truth

#: Seconds a service may take until it is ready; the local Snowflake takes 4 on an idle machine.
START_TIMEOUT_SECONDS = 120.0

_PACKAGES = {
    "snowflake": ("fakesnow", "uvicorn", "starlette", "cryptography", "certifi"),
    "braze": (),
    "mailbox": ("aiosmtpd",),
}


class Sandbox:
    """Local services for demos and tests; a context manager.

    .. code-block:: python

        with Sandbox() as sandbox:
            os.environ.update(sandbox.env())
            ...

    :param directory: where data, certificates and logs go, and stay, so that a later sandbox continues with
        them; default: a temporary directory, removed at the end.
    :param services: which of ``snowflake``, ``braze`` and ``mailbox`` to start.
    :param ports: service to the port it shall listen on; default: any free one.
    :param start_timeout: seconds until all services must be ready.
    """

    def __init__(
        self,
        *,
        directory: Path | None = None,
        services: Collection[str] = SERVICES,
        ports: Mapping[str, int] | None = None,
        start_timeout: float = START_TIMEOUT_SECONDS,
    ) -> None:
        unknown = sorted({*services, *(ports or {})} - {*SERVICES})
        if unknown:
            raise SandboxError(f"The sandbox has no service {unknown[0]!r}; it has {', '.join(SERVICES)}.")
        self.services = tuple(service for service in SERVICES if service in services)
        self._given_directory = directory
        self._ports = dict(ports or {})
        self._start_timeout = start_timeout
        self._processes: dict[str, ServiceProcess] = {}
        self._ready: dict[str, dict[str, Any]] = {}
        self._directory: Path | None = None
        self._certificates: Certificates | None = None
        self._undo_environment: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all services and return when all are ready; when one is not, none is left running.

        :raises SandboxError: when a service cannot be started, or a package of the extra ``sandbox`` is
            missing.
        """
        if self._processes:
            raise SandboxError("This sandbox is already running.")
        require_extra(*(package for service in self.services for package in _PACKAGES[service]))
        try:
            if self._given_directory is None:
                self._directory = Path(tempfile.mkdtemp(prefix="kubit-braze-sandbox-"))
            else:
                self._directory = self._given_directory.resolve()
            for part in ("logs", "tmp"):
                (self._directory / part).mkdir(parents=True, exist_ok=True)
            if "snowflake" in self.services:
                self._certificates = ensure_certificates(self._directory / "tls")
            for service in self.services:
                self._launch(service)
            for service in self.services:
                self._await(service, time.monotonic() + self._start_timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all services; a temporary directory is removed. Does nothing when nothing runs."""
        processes, self._processes = self._processes, {}
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.stop()
        self._ready.clear()
        if self._undo_environment is not None:
            self._undo_environment()
            self._undo_environment = None
        if self._given_directory is None and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._directory = None

    def kill(self, service: str) -> None:
        """End one service by SIGKILL, as a crash would."""
        self._process(service).kill()

    def terminate(self, service: str) -> int:
        """End one service by SIGTERM, as a shutdown would; return its exit code, 0 for a clean end."""
        return self._process(service).stop()

    def restart(self, service: str) -> None:
        """Start one service anew on its port; Snowflake and mailbox keep their data, Braze does not."""
        self._process(service).stop()
        self._ports[service] = self._ready.pop(service)["port"]
        self._launch(service)
        self._await(service, time.monotonic() + self._start_timeout)

    def _process(self, service: str) -> ServiceProcess:
        try:
            return self._processes[service]
        except KeyError:
            raise SandboxError(
                f"The local {service} is not part of this sandbox, or it is stopped."
            ) from None

    def _launch(self, service: str) -> None:
        arguments: list[str] = []
        if service == "snowflake":
            certificates = self._tls
            arguments = ["--directory", str(self.directory / "snowflake"), "--database", DATABASE]
            arguments += ["--tls-cert", str(certificates.certificate), "--tls-key", str(certificates.key)]
        elif service == "mailbox":
            arguments = ["--file", str(self._mail_file)]
        self._processes[service] = ServiceProcess(
            name=service,
            module=f"airflow_provider_kubit_braze.sandbox.{_MODULES[service]}",
            log=self.directory / "logs" / f"{service}.log",
            arguments=arguments,
            port=self._ports.get(service, 0),
            # Files that a service leaves in the temporary directory go with ours.
            environment={"TMPDIR": str(self.directory / "tmp")},
        )

    def _await(self, service: str, deadline: float) -> None:
        ready = self._process(service).wait_ready(deadline=deadline)
        self._ready[service] = {"port": int(ready["url"].rsplit(":", 1)[1]), **ready}

    # -- what it offers ------------------------------------------------------------------------------------

    @property
    def directory(self) -> Path:
        """Where data, certificates and logs are."""
        if self._directory is None:
            raise SandboxError("This sandbox is not running.")
        return self._directory

    @property
    def pids(self) -> dict[str, int]:
        """Service to process id."""
        return {service: process.pid for service, process in self._processes.items()}

    @property
    def braze_url(self) -> str:
        """Where Braze's REST endpoint is."""
        return str(self._answer("braze")["url"])

    @property
    def braze(self) -> BrazeControl:
        """Sees into the local Braze and sets it up."""
        from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl

        return BrazeControl(self.braze_url)

    @property
    def snowflake(self) -> SnowflakeControl:
        """Sees into the local Snowflake and sets it up."""
        return SnowflakeControl(self.snowflake_url, bundle=self._tls.bundle)

    @property
    def snowflake_url(self) -> str:
        """Where Snowflake is."""
        return str(self._answer("snowflake")["url"])

    @property
    def snowflake_host(self) -> str:
        """The host for the Snowflake connection's extra ``host``."""
        return "127.0.0.1"

    @property
    def snowflake_port(self) -> int:
        """The port for the Snowflake connection's extra ``port``."""
        return int(self._answer("snowflake")["port"])

    @property
    def mailbox(self) -> Mailbox:
        """Reads the mails that were sent."""
        return Mailbox(file=self._mail_file, host="127.0.0.1", port=int(self._answer("mailbox")["port"]))

    def env(self) -> dict[str, str]:
        """Return the variables that point an Airflow process, or anything else, at the running services."""
        variables: dict[str, str] = {}
        if "snowflake" in self.services:
            variables |= snowflake_connection(host=self.snowflake_host, port=self.snowflake_port)
            variables |= self._tls_environment()
        if "braze" in self.services:
            variables |= braze_connection(url=self.braze_url)
        if "mailbox" in self.services:
            variables |= smtp_connection(host=self.mailbox.host, port=self.mailbox.port)
        return variables

    def connect(self, **options: Any) -> SnowflakeConnection:
        """Return a connection to the local Snowflake.

        The connector reads the trusted authorities from the environment of the process, so
        ``REQUESTS_CA_BUNDLE`` is set for this process until :meth:`stop`; the bundle also holds all
        authorities trusted before.

        :param options: further arguments for ``snowflake.connector.connect``, such as ``schema``.
        """
        import snowflake.connector

        if self._undo_environment is None:
            self._undo_environment = _set_environment(self._tls_environment())
        arguments: dict[str, Any] = {
            "user": SNOWFLAKE_USER,
            "password": SNOWFLAKE_PASSWORD,
            "account": SNOWFLAKE_ACCOUNT,
            "host": self.snowflake_host,
            "port": self.snowflake_port,
            "database": DATABASE,
            "schema": SCHEMA,
        }
        return snowflake.connector.connect(**{**arguments, **options})

    def run_campaign(self, message_id: str, *, seed: int, app_group_id: str, **how: Any) -> Truth:
        """Let a triggered campaign or Canvas run its course in the local share, and return the true effect.

        :param how: as ``campaign_life.run_campaign`` takes it: who is held out, how people buy, in which channels.
        """
        from airflow_provider_kubit_braze.sandbox.campaign_life import run_campaign

        with self.connect() as connection:
            return run_campaign(
                self.braze, connection, message_id, seed=seed, app_group_id=app_group_id, **how
            )

    @property
    def _tls(self) -> Certificates:
        if self._certificates is None:
            raise SandboxError("This sandbox has no local Snowflake.")
        return self._certificates

    @property
    def _mail_file(self) -> Path:
        return self.directory / "mails.jsonl"

    def _tls_environment(self) -> dict[str, str]:
        # The connector otherwise asks three clouds' metadata services at each login where it runs.
        return {"REQUESTS_CA_BUNDLE": str(self._tls.bundle), "SNOWFLAKE_DISABLE_PLATFORM_DETECTION": "true"}

    def _answer(self, service: str) -> dict[str, Any]:
        try:
            return self._ready[service]
        except KeyError:
            raise SandboxError(f"The local {service} is not running.") from None


_MODULES = {"snowflake": "snowflake_server", "braze": "braze_http", "mailbox": "mailbox"}


def _set_environment(variables: Mapping[str, str]) -> Callable[[], None]:
    """Set what is not set to that yet; the undo leaves alone what somebody else has set, or has changed since."""
    ours = {name: value for name, value in variables.items() if os.environ.get(name) != value}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)

    def undo() -> None:
        for name, value in before.items():
            if os.environ.get(name) != ours[name]:
                continue
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    return undo
