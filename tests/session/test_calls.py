from __future__ import annotations

import wsrpc
from tests.support import Codec, pair


class Hello:
    @wsrpc.method
    async def greet(self, name: str) -> str:
        return f"Hello, {name}!"


async def test_a_call_returns_what_the_method_returned(codec: Codec) -> None:
    async with pair([Hello()], codec=codec) as (_, client):
        assert await client.clientize(Hello).greet("Ann") == "Hello, Ann!"
