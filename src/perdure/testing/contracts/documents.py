"""Everything a document driver promises, in one class.

::

    class TestDocumentsOnSomething(DocumentDriverContract):
        async def open_driver(self) -> DocumentDriver:
            driver = SomethingDriver(...)
            await driver.open()
            return driver

Called again in the same test, ``open_driver`` opens another client on the same data; a fixture of the class
(``autouse``) can say which data that is.
"""

from __future__ import annotations

from perdure.testing.contracts.documents_clients import DocumentClientsContract
from perdure.testing.contracts.documents_commits import DocumentCommitsContract
from perdure.testing.contracts.documents_limits import DocumentLimitsContract
from perdure.testing.contracts.documents_ranges import DocumentRangesContract


class DocumentDriverContract(
    DocumentCommitsContract, DocumentLimitsContract, DocumentRangesContract, DocumentClientsContract
):
    """Every part of the contract; a backend's test file only says how to open."""
