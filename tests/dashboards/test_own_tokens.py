"""The page Access makes tokens for who is signed in, shows each once, and revokes only one's own."""

import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from warehouse import config
from warehouse.access.principals import Principal
from warehouse.lake.tables import Lake
from warehouse.records import tokens

ADA = Principal(user="ada", groups=frozenset({"payments"}))


def page() -> None:
    """What the page draws of tokens."""
    import streamlit as st

    from dashboards.access import own_tokens

    own_tokens.draw(st.session_state["of test"])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open(config.Lake(url=str(tmp_path / "lake")))


def look(lake: Lake, mode: str = "proxy") -> Any:
    """The page as ada sees it."""
    auth = {"mode": mode} | ({"proxy": {"secret_env": "X"}} if mode == "proxy" else {})
    settings = config.Config(dashboard=config.Dashboard(auth=config.DashboardAuth.model_validate(auth)))
    at = AppTest.from_function(page, default_timeout=300)
    at.session_state["of test"] = SimpleNamespace(settings=settings, lake=lake, who=ADA)
    return at.run()


def test_without_sign_in_no_token_is_made(lake: Lake) -> None:
    at = look(lake, "local")
    assert not at.button
    assert "hindcast token create" in at.markdown[0].value


def test_a_token_without_a_name_is_not_made(lake: Lake) -> None:
    at = look(lake)
    at.button[0].click().run()
    assert "needs a name" in at.error[0].value
    assert tokens.listed(lake) == []


def test_a_token_is_shown_once_and_is_the_users(lake: Lake) -> None:
    at = look(lake)
    at.text_input[0].set_value("laptop")
    at.button[0].click().run()
    text = at.code[0].value
    assert tokens.Verifier(lake).principal(text) == ADA
    at.run()
    assert not at.code


def test_only_ones_own_tokens_are_listed_and_revoked(lake: Lake) -> None:
    day = dt.timedelta(days=1)
    mine, _ = tokens.create(lake, ADA, name="mine", lifetime=day, changed_by="ada")
    tokens.create(lake, Principal(user="eve"), name="hers", lifetime=day, changed_by="eve")
    at = look(lake)
    assert [button.label for button in at.button] == ["Make a token", "Revoke"]
    at.button(key=f"revoke {mine.id}").click().run()
    assert [token.name for token in tokens.listed(lake)] == ["hers"]
