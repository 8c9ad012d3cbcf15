"""Which errors of MongoDB are an event's own fault."""

from typing import Any

import pytest
from pymongo.errors import OperationFailure, PyMongoError, WriteConcernError, WriteError

from unlost import Reject
from unlost.listener.core.delivery import Delivery
from unlost.listener.shipped.mongodb import keep

WITHOUT_JOURNAL = "cannot use 'j' option when a host does not have journaling enabled"


class Refusing:
    """A collection that refuses everything."""

    def __init__(self, error: PyMongoError) -> None:
        self._error = error

    async def replace_one(self, *_: object, **__: object) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OperationFailure(WITHOUT_JOURNAL, 2), OperationFailure),
        (WriteConcernError(WITHOUT_JOURNAL, 2), WriteConcernError),
        (WriteError("the document is too large", 17419), Reject),
        (OperationFailure("the object is too large", 10334), Reject),
        (OperationFailure("not authorized", 13), OperationFailure),
    ],
)
async def test_a_setting_of_the_server_is_no_fault_of_an_event(error: PyMongoError, raised: type[Exception]) -> None:
    collection: Any = Refusing(error)
    with pytest.raises(raised):
        await keep(Delivery("e", None, None, {}, 1, 1), collection)
