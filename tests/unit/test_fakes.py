"""A fake takes what the class takes whose place it takes."""

import pytest

from tests.support.fakes import as_a, unused


class Store:
    def save(self, key: str, value: str, *, sync: bool = False) -> None: ...


class Kept:
    def save(self, key: str, value: str, *, sync: bool = False) -> None: ...

    def shown(self) -> None:
        """Of the test alone."""


class WithoutSync:
    def save(self, key: str, value: str) -> None: ...


class WithMore:
    def save(self, key: str, value: str, when: float, *, sync: bool = False) -> None: ...


def test_a_fake_that_takes_all_is_returned_itself() -> None:
    fake = Kept()
    assert as_a(Store, fake) is fake


@pytest.mark.parametrize(
    ("fake", "why"),
    [(WithoutSync(), "unexpected keyword argument 'sync'"), (WithMore(), "missing a required argument")],
)
def test_a_fake_that_the_class_has_outgrown_is_refused(fake: object, why: str) -> None:
    with pytest.raises(AssertionError, match=rf"save does not take what Store.save takes: .*{why}"):
        as_a(Store, fake)


def test_using_an_unused_fake_ends_the_test() -> None:
    with pytest.raises(AssertionError, match="the test uses save of Store"):
        unused(Store).save("a", "b")
