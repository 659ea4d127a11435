"""Sessions over real HTTP: one set of scenarios, run against the ASGI and the aiohttp middleware."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from aiohttp import WSMsgType
from redis.asyncio import Redis

from aredis_patterns import PipelinedRedis, SessionStore
from aredis_patterns.contrib.starlette import SessionCookie
from aredis_patterns.embedded import EmbeddedServer
from aredis_patterns.sessions._tokens import new_token
from aredis_patterns.testing import FaultProxy, assert_round_trips

from .session_apps import Site, serve

pytestmark = pytest.mark.filterwarnings("ignore:.*websockets.*:DeprecationWarning")


@pytest.fixture(params=["fastapi", "aiohttp"])
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def site(framework: str, redis_client: Redis, namespace: str) -> AsyncGenerator[Site, None]:
    store = SessionStore(redis_client, namespace=namespace, max_per_user=5, deadline=10)
    async with serve(framework, store, None) as running:
        yield running


@pytest.fixture
async def watched(
    framework: str, fault_proxy: FaultProxy, namespace: str
) -> AsyncGenerator[tuple[Site, FaultProxy], None]:
    """The same behind a proxy that counts."""
    async with PipelinedRedis.from_url(fault_proxy.url) as client:
        store = SessionStore(client, namespace=namespace, deadline=10)
        warm = await store.create({"x": 1})
        warm.data["x"] = 2
        await store.save(warm)
        await store.get(warm.token)
        async with serve(framework, store, None) as running:
            yield running, fault_proxy


async def test_s11_a_visitor_of_whom_nothing_is_kept_costs_nothing(watched: tuple[Site, FaultProxy]) -> None:
    site, proxy = watched
    async with site.browser() as visitor:
        async with assert_round_trips(proxy, 0):
            assert await visitor.home() == {"user": None, "cart": []}
            response = await visitor.request("GET", "/static")
        assert not visitor.cookies
        assert "vary" not in response.headers
        assert "cache-control" not in response.headers


async def test_reading_writes_nothing_and_sets_no_cookie(watched: tuple[Site, FaultProxy]) -> None:
    site, proxy = watched
    async with site.browser() as browser:
        async with assert_round_trips(proxy, 1):
            await browser.do("put", item="book")
        token = browser.token
        async with assert_round_trips(proxy, 1, commands=1):
            response = await browser.request("GET", "/do/home")
        assert response.json()["cart"] == ["book"]
        assert browser.last_set == []
        assert response.headers["vary"] == "Cookie"
        assert "cache-control" not in response.headers
        async with assert_round_trips(proxy, 2, commands=2):
            await browser.do("put", item="pen")
        assert browser.token == token


async def test_the_cookie_is_what_owasp_recommends(site: Site) -> None:
    async with site.browser() as browser:
        response = await browser.request("POST", "/do/put", params={"item": "book"})
        (line,) = browser.last_set
        name, *attributes = line.split("; ")
        assert name.startswith("__Host-session=")
        assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["vary"] == "Cookie"


async def test_login_and_two_tabs(site: Site) -> None:
    async with site.browser() as browser:
        await browser.do("put", item="book")
        planted = browser.token
        await browser.do("login", user="ada", agent="firefox")
        assert browser.token != planted
        assert await browser.home() == {"user": "ada", "cart": ["book"]}
        await asyncio.gather(*(browser.do("note", name=f"tab{tab}", value=str(tab)) for tab in range(5)))
        shown = await browser.do("show")
        assert {name: shown[name] for name in shown if name != "cart"} == {f"tab{tab}": str(tab) for tab in range(5)}
        assert (await browser.request("GET", "/account")).json() == "ada"
        async with site.browser() as attacker:
            attacker.cookies = {"__Host-session": planted or ""}
            assert await attacker.home() == {"user": None, "cart": []}
            assert (await attacker.request("GET", "/account")).status_code == 401


async def test_s3_logout_during_a_slow_request(site: Site) -> None:
    async with site.browser() as browser:
        await browser.do("login", user="ada")
        slow = asyncio.create_task(browser.request("POST", "/do/slow", params={"item": "late"}))
        await site.gate.reached.wait()
        async with site.browser() as other_tab:
            other_tab.cookies = dict(browser.cookies)
            await other_tab.do("logout")
            assert other_tab.last_set[0].startswith("__Host-session=; Max-Age=0; ")
            assert not other_tab.cookies
        token = browser.token
        site.gate.open.set()
        response = await slow
        assert response.status_code == 200
        assert browser.last_set == [], "neither brought back nor taken: the browser may have a newer one"
        assert await browser.home() == {"user": None, "cart": []}
        assert await site.store.get(token or "") is None
        assert await site.store.list("ada") == []


async def test_login_during_a_slow_request_of_the_old_session(site: Site) -> None:
    async with site.browser() as browser:
        await browser.do("put", item="book")
        old = dict(browser.cookies)
        slow = asyncio.create_task(browser.request("POST", "/do/slow", params={"item": "late"}))
        await site.gate.reached.wait()
        await browser.do("login", user="ada")
        site.gate.open.set()
        assert (await slow).status_code == 200
        assert browser.cookies != old
        assert await browser.home() == {"user": "ada", "cart": ["book"]}


async def test_six_devices_with_a_cap_of_five(site: Site) -> None:
    tokens: list[dict[str, str]] = []
    for number in range(6):
        async with site.browser() as device:
            await device.do("login", user="ada", agent=f"device {number}")
            tokens.append(device.cookies)
    users = []
    async with site.browser() as browser:
        for cookies in tokens:
            browser.cookies = dict(cookies)
            users.append((await browser.home())["user"])
        assert users == [None] + ["ada"] * 5
        assert await browser.do("devices") == [{"agent": f"device {number}"} for number in range(5, 0, -1)]
        assert await browser.do("logout-everywhere", keep="yes") == 4
        assert await browser.do("devices") == [{"agent": "device 5"}]
        assert await browser.do("logout-everywhere") == 1
        assert not browser.cookies
        assert await browser.home() == {"user": None, "cart": []}


@pytest.mark.parametrize("login", ["/do/login", "/redirect"])
async def test_a_fixation_attempt(site: Site, login: str, redis_client: Redis, namespace: str) -> None:
    """The attacker plants a token: one that the server has never made, and one of a session of their own."""
    async with site.browser() as attacker:
        await attacker.do("put", item="trap")
        for planted in (new_token(), attacker.token or ""):
            async with site.browser() as victim:
                victim.cookies = {"__Host-session": planted}
                response = await victim.request("POST", login, params={"user": "ada"})
                assert response.status_code in (200, 303)
                assert victim.token != planted
                assert (await victim.home())["user"] == "ada"
            attacker.cookies = {"__Host-session": planted}
            assert (await attacker.home())["user"] is None
            assert await site.store.get(planted) is None


async def test_s1_an_unknown_token_is_not_adopted(site: Site) -> None:
    async with site.browser() as browser:
        planted = new_token()
        browser.cookies = {"__Host-session": planted}
        await browser.do("put", item="book")
        assert browser.token != planted
        assert await site.store.get(planted) is None


async def test_expiry(framework: str, redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, idle_timeout=0.4, absolute_timeout=0.6, deadline=10)
    async with serve(framework, store, None) as site, site.browser() as browser:
        for pause in (0.05, 0.5):  # used until the absolute end; left alone
            await browser.do("login", user="ada")
            token = browser.token
            until = time.monotonic() + 10
            while (await browser.home())["user"] == "ada":
                assert time.monotonic() < until
                await asyncio.sleep(pause)
            assert browser.last_set == []
            assert browser.token == token


TWO = "A" * 43 + "; __Host-session=" + "B" * 43


@pytest.mark.parametrize(
    "value", ["x", "A" * 7_000, "A" * 42 + "é", "A" * 42 + '"', "=", TWO], ids=lambda v: str(len(v))
)
async def test_s12_malformed_cookies_never_reach_redis(watched: tuple[Site, FaultProxy], value: str) -> None:
    site, proxy = watched
    async with site.browser() as browser, assert_round_trips(proxy, 0):
        response = await browser.client.get("/do/home", headers={"cookie": f"__Host-session={value}".encode()})
        assert response.json() == {"user": None, "cart": []}


async def test_other_cookies_do_not_disturb(site: Site) -> None:
    async with site.browser() as browser:
        await browser.do("login", user="ada")
        header = {"cookie": f"a=b=c; session=x;__Host-session={browser.token} ; __host-session=y; d"}
        assert (await browser.client.get("/do/home", headers=header)).json()["user"] == "ada"


async def test_a_cookie_that_any_subdomain_may_set_is_not_taken_for_ours(site: Site) -> None:
    """`__Host-` protects names that begin with it. With a space of Unicode before it a name does not."""
    async with site.browser() as browser:
        await browser.do("login", user="ada")
        pair = b"__Host-session=" + (browser.token or "").encode()
        for space in (b"\xa0", b"\x85", b"\xc2\xa0", b"\xe2\x80\x80", b"\xe3\x80\x80"):
            response = await browser.client.get("/do/home", headers={"cookie": space + pair})
            assert response.json()["user"] is None, space
        response = await browser.client.get("/do/home", headers={"cookie": b"a=b;\t " + pair})
        assert response.json()["user"] == "ada"


async def test_a_logout_holds_although_the_session_has_just_got_another_token(site: Site) -> None:
    async with site.browser() as browser:
        await browser.do("login", user="ada")
        slow = asyncio.create_task(browser.request("POST", "/do/slow-logout"))
        await site.gate.reached.wait()
        await browser.do("rotate")
        site.gate.open.set()
        assert (await slow).status_code == 200
        assert await site.store.list("ada") == []


async def test_parallel_rotations_from_time_to_time_lose_nothing(site: Site) -> None:
    async with site.browser() as browser:
        await browser.do("login", user="ada")
        slow = asyncio.create_task(browser.request("POST", "/do/slow-rotate"))
        await site.gate.reached.wait()
        await browser.do("rotate", grace="30")
        token = browser.token
        site.gate.open.set()
        assert (await slow).status_code == 200
        assert browser.token == token
        assert await browser.home() == {"user": "ada", "cart": ["late"]}


async def test_logout_everywhere_ends_this_session_although_the_list_was_lost(site: Site, redis_client: Redis) -> None:
    async with site.browser() as browser:
        await browser.do("login", user="ada")
        token = browser.token or ""
        await redis_client.unlink(site.store._server.keys.index("ada"))
        assert await browser.do("logout-everywhere") == 1
        assert await site.store.get(token) is None


async def test_a_response_that_has_begun_is_cut_and_not_followed_by_another_one(
    framework: str, own_server: EmbeddedServer
) -> None:
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    async with PipelinedRedis.from_url(own_server.url) as client:
        store = SessionStore(client, deadline=10)
        async with serve(framework, store, None) as site, site.browser() as browser, site.browser() as other:
            await browser.do("login", user="ada")
            await other.do("login", user="bob")
            async with other.websocket() as socket:
                await socket.receive_str()
                stream = asyncio.create_task(browser.request("GET", "/stream?slow=1"))
                await site.gate.reached.wait()
                await own_server.kill()
                site.gate.open.set()
                with pytest.raises(httpx.RemoteProtocolError):
                    await stream
                await socket.send_str("save")
                message = await socket.receive(timeout=10)
                assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING)
                assert framework == "aiohttp" or socket.close_code == 1013


async def test_a_whole_response_that_the_handler_begins_carries_the_cookie(redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, deadline=10)
    async with serve("aiohttp", store, None) as site, site.browser() as browser:
        assert (await browser.request("GET", "/prepared")).text == "done"
        assert (await browser.home())["cart"] == ["prepared"]


async def test_redis_down_is_503_and_never_a_visitor(framework: str, own_server: EmbeddedServer) -> None:
    async with PipelinedRedis.from_url(own_server.url) as client:
        store = SessionStore(client, deadline=1)
        async with serve(framework, store, None) as site, site.browser() as browser:
            await browser.do("login", user="ada")
            own_server.pause()
            try:
                paths = ("/do/home", "/static", "/account")
                for response in await asyncio.gather(*(browser.request("GET", path) for path in paths)):
                    assert response.status_code == 503
                    assert response.headers["content-type"] == "application/problem+json"
                    assert int(response.headers["retry-after"]) >= 1
                    assert response.json()["status"] == 503
                    assert "set-cookie" not in response.headers
                async with site.browser() as visitor:
                    assert await visitor.home() == {"user": None, "cart": []}
                    for response in await asyncio.gather(
                        visitor.request("POST", "/do/login", params={"user": "ada"}),
                        visitor.request("POST", "/do/put", params={"item": "book"}),
                        visitor.request("GET", "/stream"),
                    ):
                        assert response.status_code == 503, "a response that says done must not come before it is"
                        assert "set-cookie" not in response.headers
            finally:
                own_server.resume()
            assert (await browser.home())["user"] == "ada"


async def test_a_request_that_fails_leaves_the_session_as_it_was(site: Site) -> None:
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    async with site.browser() as browser:
        await browser.do("put", item="book")
        for action in ("fail", "unwritable"):
            assert (await browser.request("POST", f"/do/{action}")).status_code == 500
            assert (await browser.home())["cart"] == ["book"]


async def test_streams_and_redirects_carry_the_cookie(site: Site) -> None:
    async with site.browser() as browser:
        response = await browser.request("GET", "/stream")
        assert response.text == "0\n1\n2\n"
        assert browser.token
        assert (await browser.home())["cart"] == ["streamed"]
        response = await browser.request("POST", "/redirect", params={"user": "ada"})
        assert response.status_code == 303
        assert (await browser.home())["user"] == "ada"


async def test_another_user_gets_nothing_of_the_one_before(site: Site) -> None:
    async with site.browser() as browser:
        await browser.do("login", user="ada")
        await browser.do("put", item="secret")
        before = browser.token or ""
        await browser.do("login", user="bob")
        assert await browser.home() == {"user": "bob", "cart": []}
        assert await site.store.get(before) is None
        await browser.do("login", user="bob")
        assert len(await site.store.list("bob")) == 1


async def test_a_rotation_from_time_to_time(site: Site) -> None:
    async with site.browser() as browser:
        await browser.do("login", user="ada")
        old = browser.token
        await browser.do("rotate")
        assert browser.token != old
        assert (await browser.home())["user"] == "ada"


async def test_csrf(site: Site) -> None:
    pytest.importorskip("python_multipart", reason="FastAPI reads forms with it")
    async with site.browser() as browser, site.browser() as attacker:
        await browser.do("login", user="ada")
        token, other = await browser.do("csrf"), await attacker.do("csrf")
        assert attacker.token, "a visitor gets a session for it"
        headers = {"x-csrf-token": token}
        assert (await browser.request("POST", "/transfer", headers=headers)).status_code == 200
        assert (await browser.request("POST", "/transfer", data={"csrf_token": token})).status_code == 200
        for wrong in ({}, {"x-csrf-token": other}, {"x-csrf-token": browser.token or ""}):
            assert (await browser.request("POST", "/transfer", headers=wrong)).status_code == 403
        assert (await browser.request("POST", "/transfer", data={"csrf_token": other})).status_code == 403
        async with site.browser() as visitor:
            assert (await visitor.request("POST", "/transfer", headers=headers)).status_code == 403


async def test_a_logout_closes_the_websockets_of_the_session(site: Site) -> None:
    pytest.importorskip("websockets", reason="uvicorn speaks WebSocket with it")
    async with site.browser() as browser, site.browser() as other:
        await browser.do("login", user="ada")
        await other.do("login", user="bob")
        async with browser.websocket() as first, browser.websocket() as second, other.websocket() as untouched:
            for socket, user in ((first, "ada"), (second, "ada"), (untouched, "bob")):
                assert await socket.receive_str() == f"hello {user}"
                await socket.send_str("ping")
                assert await socket.receive_str() == "ping"
            while site.store.statistics().waiting < 3:
                await asyncio.sleep(0.01)
            await browser.do("logout")
            for socket in (first, second):
                message = await asyncio.wait_for(socket.receive(), 5)
                assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING)
                assert socket.close_code == 1008
            await untouched.send_str("still here")
            assert await untouched.receive_str() == "still here"
        assert (await browser.request("GET", "/disconnected")).json() is True
    while site.store.statistics().waiting:
        await asyncio.sleep(0.01)


async def test_an_expired_session_closes_its_websocket(framework: str, redis_client: Redis, namespace: str) -> None:
    pytest.importorskip("websockets", reason="uvicorn speaks WebSocket with it")
    store = SessionStore(redis_client, namespace=namespace, idle_timeout=0.5, absolute_timeout=60, deadline=10)
    async with serve(framework, store, None) as site, site.browser() as browser:
        await browser.do("login", user="ada")
        async with browser.websocket() as socket:
            assert await socket.receive_str() == "hello ada"
            message = await asyncio.wait_for(socket.receive(), 8)
            assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING)
            assert socket.close_code == 1008


async def test_a_visitors_websocket_needs_no_session(watched: tuple[Site, FaultProxy]) -> None:
    pytest.importorskip("websockets", reason="uvicorn speaks WebSocket with it")
    site, proxy = watched
    async with site.browser() as visitor, assert_round_trips(proxy, 0), visitor.websocket() as socket:
        assert await socket.receive_str() == "hello None"


async def test_the_cookie_of_an_application_without_tls(framework: str, redis_client: Redis, namespace: str) -> None:
    store = SessionStore(redis_client, namespace=namespace, deadline=10)
    cookie = SessionCookie("sid", secure=False, same_site="Strict", path="/do", domain="127.0.0.1", persistent=True)
    async with serve(framework, store, cookie) as site, site.browser() as browser:
        await browser.do("put", item="book")
        assert browser.last_set[0].partition("; ")[2].split("; ") == [
            "Max-Age=28800",
            "Path=/do",
            "Domain=127.0.0.1",
            "HttpOnly",
            "SameSite=Strict",
        ]
        assert (await browser.home())["cart"] == ["book"]


@pytest.mark.parametrize(
    "options",
    [
        {"name": "a b"},
        {"name": ""},
        {"name": "a=b"},
        {"same_site": "lax"},
        {"secure": False},
        {"path": "/x"},
        {"domain": "example.com"},
        {"name": "__Secure-s", "secure": False},
        {"name": "s", "secure": False, "same_site": "None"},
        {"name": "s", "path": "/; Domain=evil"},
        {"name": "s", "domain": "a\r\nb"},
    ],
)
def test_cookies_that_browsers_refuse_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match=r"cookie|same_site|path"):
        SessionCookie(**options)
