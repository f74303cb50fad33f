"""Addresses as they were recorded, which an imported file may have written in any way."""

import pytest

from pipelines.replay.ends import address_of, is_within, valid_address


@pytest.mark.parametrize("text", [None, "", "web-1", "10.0.0.300", "10.0.0.0/8", "%eth0"])
def test_what_is_not_an_address_is_none_and_within_no_range(text: str | None) -> None:
    assert address_of(text) is None
    assert valid_address(text) is None
    assert not is_within(text, "0.0.0.0/0")
    assert is_within(text, None)


def test_a_zone_is_left_out() -> None:
    assert valid_address("fe80::1%eth0") == "fe80::1"
    assert is_within("fe80::1%eth0", "fe80::/10")
    assert not is_within("10.1.2.3", "10.2.0.0/16")
