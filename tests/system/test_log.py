"""What writes the log is imported without what it does not need, and takes nothing from who uses it as well."""

from __future__ import annotations

import subprocess
import sys


def said(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_log_loads_neither_asyncio_nor_rich() -> None:
    code = (
        "import sys; from nbprovision.system import log; log._structlog(); print({'asyncio', 'rich'} & {*sys.modules})"
    )
    assert said(code) == "set()"


def test_a_coroutine_of_structlog_works_for_who_imports_it_afterwards() -> None:
    code = """
import sys
from nbprovision.system import log
structlog = log._structlog()
import asyncio
asyncio.run(structlog.get_logger().ainfo("hello"))
"""
    assert "hello" in said(code)


def test_a_coroutine_of_structlog_loads_asyncio_by_itself() -> None:
    code = """
from nbprovision.system import log
structlog = log._structlog()
print(structlog.stdlib.asyncio.sleep.__name__)
import asyncio
print(asyncio is not structlog.stdlib.asyncio, asyncio.run.__name__)
"""
    assert said(code) == "sleep\nTrue run"


def test_a_module_that_is_used_during_the_import_stays() -> None:
    code = """
import logging, sys
class Record(logging.LogRecord):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        sys.modules["asyncio"].current_task
logging.LogRecord = Record
from nbprovision.system import log
log._structlog()
import asyncio
asyncio.run(asyncio.sleep(0))
print("slept")
"""
    assert said(code) == "slept"


def test_as_long_as_asyncio_is_not_used_it_counts_as_not_loaded() -> None:
    """`logging` of Python 3.12 asks it for the current task of each record, if it is loaded."""
    code = """
import logging, sys
class Record(logging.LogRecord):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        if sys.modules.get("asyncio"):
            sys.modules["asyncio"].current_task
logging.LogRecord = Record
from nbprovision.system import log
log._structlog()
print("asyncio" in sys.modules)
"""
    assert said(code) == "False"
