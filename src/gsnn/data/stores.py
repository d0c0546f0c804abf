"""Where surveys lie: a folder, or an object store named by ``s3://``, ``gs://`` or ``az://``.

Who may read and write is told by the environment, as the stores' own tools have it: ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION`` and ``AWS_ENDPOINT_URL`` (S3 and what speaks its language),
``GOOGLE_APPLICATION_CREDENTIALS``, ``AZURE_STORAGE_ACCOUNT_NAME`` and ``AZURE_STORAGE_ACCOUNT_KEY``.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import GsnnError, suggest

SCHEMES = ("s3", "gs", "az")
_SECONDS = 8  # to wait for the first word of a store
_PATIENCE = {"connect_timeout": "5s", "timeout": "60s", "client_max_retries": "3", "client_retry_timeout": "30"}


def is_remote(path: Any) -> bool:
    """Whether a path is the address of an object store."""
    scheme, sign, _ = str(path).partition("://")
    if not sign or "/" in scheme or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return False
    if scheme not in SCHEMES:
        raise GsnnError(f"{path}: no store speaks {scheme}://; {suggest(scheme, SCHEMES)}")
    return True


def inside(path: Any, name: str) -> str:
    return f"{str(path).rstrip('/')}/{name}"


def absolute(path: Any) -> str:
    """A path that does not depend on the current folder; the address of a store as it is."""
    return str(path) if is_remote(path) else str(Path(path).resolve())


def endpoint(path: str) -> str:
    """The host that answers for an address."""
    scheme, env = path.partition("://")[0], os.environ.get
    if scheme == "s3":
        region = env("AWS_REGION") or env("AWS_DEFAULT_REGION") or "us-east-1"
        given = env("AWS_ENDPOINT_URL_S3") or env("AWS_ENDPOINT_URL") or env("AWS_ENDPOINT")
        return given or f"https://s3.{region}.amazonaws.com"
    if scheme == "gs":
        return "https://storage.googleapis.com"
    account = env("AZURE_STORAGE_ACCOUNT_NAME", "")
    return env("AZURE_STORAGE_ENDPOINT") or f"https://{account or 'login'}.blob.core.windows.net"


def options(path: Any) -> dict[str, str] | None:
    """What Lance is told about a store: how long to wait, and the endpoint if it is not the provider's own."""
    if not is_remote(path):
        return None
    host = endpoint(str(path))
    given = {"allow_http": "true"} if host.startswith("http://") else {}
    if str(path).startswith("s3://") and "amazonaws.com" not in host:
        given["aws_endpoint"] = host
    return {**_PATIENCE, **given}


def dataset(path: Any, name: str = "objects.lance") -> Any:
    """The Lance dataset of a survey."""
    import lance

    return lance.dataset(inside(path, name), storage_options=options(path))


def is_survey(path: Any, name: str = "objects.lance") -> bool:
    """Whether a survey lies there. A store that does not answer is told in one sentence within seconds."""
    if not isinstance(path, (str, Path)):
        return False
    if not is_remote(path):
        return (Path(path) / name).is_dir()
    reach(endpoint(str(path)))
    try:
        dataset(path, name)
    except Exception as error:
        text = str(error)
        if "was not found" in text:
            return False
        raise GsnnError(f"cannot open {path}: {reason(text)}") from error
    return True


def reason(text: str) -> str:
    """What an object store answers, without the request and the lines of Rust around it."""
    for pattern in (
        r"<Message>(.*?)</Message>",
        r"<Code>(.*?)</Code>",
        r"HTTP error: ([^,]*)",
        r"status code: ([^:]*)",
    ):
        found = re.search(pattern, text)
        if found:
            said = found.group(1).strip().rstrip(".").lower()
            return "no answer" if said == "error sending request" else said
    return " ".join(text.split(", /")[0].split())[:200]


@lru_cache(maxsize=16)
def reach(host: str) -> None:
    """Ask a store for anything at all: the libraries below would try again for minutes where nobody answers."""
    import urllib.error
    import urllib.request

    try:
        urllib.request.urlopen(urllib.request.Request(host, method="HEAD"), timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers, if only to refuse
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or str(reason)
        raise GsnnError(
            f"cannot reach the object store at {host} ({why.lower()}); check the network, and AWS_ENDPOINT_URL if the "
            "store is your own"
        ) from None
