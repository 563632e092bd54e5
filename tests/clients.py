"""Both Python clients in one shape, so that one suite holds them both."""

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any, cast

from stoker import AsyncStoker, Stoker


class Waiting:
    """Something asynchronous, called as if it were not."""

    def __init__(self, runner: asyncio.Runner, client: object) -> None:
        self._runner = runner
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not callable(method):
            return Waiting(self._runner, method)

        def call(*arguments: Any, **named: Any) -> Any:
            made = method(*arguments, **named)
            return self._walk(made) if inspect.isasyncgen(made) else self._runner.run(made)

        return call

    def _walk(self, items: Any) -> Iterator[Any]:
        while True:
            try:
                item = self._runner.run(anext(items))
            except StopAsyncIteration:
                return
            yield item


class Twin(Waiting):
    """The asynchronous client, called as if it were the blocking one."""

    def __init__(self, url: str, api_key: str, patience_seconds: float) -> None:
        super().__init__(asyncio.Runner(), AsyncStoker(url, api_key, patience_seconds=patience_seconds))

    def close(self) -> None:
        """Close the client and its loop."""
        self.__getattr__("close")()
        self._runner.close()


def open_client(shape: str, url: str, api_key: str = "sk-test", patience_seconds: float = 20.0) -> Stoker:
    """The `blocking` or the `asynchronous` client, used as the blocking one."""
    if shape == "blocking":
        return Stoker(url, api_key, patience_seconds=patience_seconds)
    return cast("Stoker", Twin(url, api_key, patience_seconds))
