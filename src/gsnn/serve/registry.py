"""The schemas of packets that only name theirs by a number (Confluent's wire format: LSST)."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from ..errors import GsnnError

SECONDS = 10
MOST_BYTES = 4 << 20
MOST_UNKNOWN = 10_000  # numbers that the registry does not know, out of damaged packets


class Away(Exception):
    """The registry does not answer now; the packets wait."""


class Registry:
    """Schemas by number, from a registry (``http://host:8081``) or a folder of ``<number>.avsc``; asked for once."""

    def __init__(self, where: str | None):
        self.where = where.rstrip("/") if where else None
        self.remote = bool(where) and where.split(":")[0] in ("http", "https")
        self._known: dict[int, str] = {}
        self._unknown: set[int] = set()
        if where and not self.remote and not Path(where).is_dir():
            raise GsnnError(f"--schemas {where} is neither a folder nor the address of a registry (http://host:port)")

    def of(self, packets: Iterable[bytes | None]) -> dict[int, str]:
        """The schemas that these packets name, as far as they are known; raises :class:`Away`."""
        numbers = {int.from_bytes(one[1:5], "big") for one in packets if one and one[0] == 0 and len(one) > 5}
        for number in sorted(numbers - self._known.keys() - self._unknown):
            found = None
            if self.where:
                found = self._asked(number) if self.remote else self._read(number)
            if found is not None:
                self._known[number] = found
            elif len(self._unknown) < MOST_UNKNOWN:
                self._unknown.add(number)
        return {number: self._known[number] for number in numbers & self._known.keys()}

    def _read(self, number: int) -> str | None:
        for end in ("avsc", "json"):
            if (path := Path(self.where or "") / f"{number}.{end}").is_file():
                return path.read_text()
        return None

    def _asked(self, number: int) -> str | None:
        """None if the registry does not know the number."""
        try:
            with urllib.request.urlopen(f"{self.where}/schemas/ids/{number}", timeout=SECONDS) as answer:
                return str(json.loads(answer.read(MOST_BYTES))["schema"])
        except urllib.error.HTTPError as error:
            if error.code in (404, 422):
                return None
            raise Away(f"the schema registry {self.where} answers {error.code} {error.reason}") from error
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise Away(f"the schema registry {self.where} does not answer ({reason})") from error
