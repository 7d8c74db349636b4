"""The reader notices what is wrong with a page: a test of the docs that can't fail would be none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.output import missing_line
from tests.docs.pages import BadPage, parts, starts_servers
from tests.docs.reader import Reader

FENCE = "```"


@pytest.fixture
def page(tmp_path: Path):
    def write(text: str) -> Path:
        (tmp_path / "page.md").write_text(text.replace("'''", FENCE))
        return tmp_path / "page.md"

    return write


async def follow(page: Path) -> Reader:
    reader = Reader(lambda: pytest.fail("no page here has JavaScript"))
    try:
        await reader.follow(parts(page))
    finally:
        await reader.close()
    return reader


@pytest.mark.server
async def test_a_page_is_followed_in_order(page) -> None:
    text = """
'''python
# shop.py
PRICE = 17
'''

'''sh
export THREADLOG_PRICES=prices.json
python -c 'import shop; print("costs", shop.PRICE, "EUR")'
'''

'''
costs 99 EUR
'''

'''console
$ echo $THREADLOG_PRICES
prices.json
'''

'''python
async def double(number):
    return 2 * number
'''
<!-- run: twice = await double(4) -->
"""
    assert (await follow(page(text))).names["twice"] == 8


@pytest.mark.server
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("'''python\n1 / 0\n'''", "division"),
        ("'''python\nawait undefined()\n'''", "undefined"),
        ("'''python\n# shop.py\nimport nothing_of_this_name\n'''", "nothing_of_this_name"),
        ("'''sh\nfalse\n'''", "exit code 1"),
        ("'''sh\necho one\n'''\n\n'''\ntwo\n'''", "the page shows\ntwo"),
        ("'''console\n$ echo one\ntwo\n'''", "the page shows\ntwo"),
        ("'''console\nno prompt\n'''", "begins with"),
        ("'''sh\npip install 'threadlog[nonsense]'\n'''", "no extra"),
        ("'''json\n{\"a\": 1}\n'''", "nothing looks at"),
        ("'''json\n{\"a\": 1}\n'''\n\ntext\n\n'''sh\ntrue\n'''", "nothing looks at"),
        ("<!-- json: RunCreate -->\n'''json\n{\"input\": 1, \"after_seconds\": \"soon\"}\n'''", "soon"),
        ("'''json\n{\"graphs\": {\"agent\": \"nowhere\"}}\n'''", "nowhere"),
        ("'''yaml\na: 1\n'''", "nothing looks at"),
        ("'''ruby\nputs 1\n'''", "nothing runs 'ruby'"),
        ("'''python\nawait client.runs.create(input=…)\n'''", "invalid"),
    ],
)
async def test_what_is_wrong_is_noticed(page, text: str, message: str) -> None:
    with pytest.raises(Exception) as raised:
        await follow(page(text))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("    threadlog up\n", "without a fence"),
        ("<!-- not run: no time -->\n'''sh\nfalse\n'''", "none of the reasons"),
        ("<!-- not run: a picture -->\n\nwords\n", "right above"),
    ],
)
def test_what_is_no_page_is_refused(page, text: str, message: str) -> None:
    with pytest.raises(BadPage, match=message):
        parts(page(text))


def test_a_page_whose_reader_starts_a_server_is_known(page) -> None:
    assert starts_servers(page("'''sh\nA=b threadlog up\n'''"))
    assert starts_servers(page("<!-- run: await serve() -->"))
    assert not starts_servers(page("<!-- not run: a Docker Engine -->\n'''sh\nthreadlog up\n'''\n\n`threadlog up`"))


def test_numbers_and_ids_of_an_output_may_be_others() -> None:
    printed = "started\nrun 0199b2c1-5c0e-7000-8000-0000deadbeef took 3.5 s\nend\n"
    assert missing_line("run 01a225f5-176e-7140-bdbc-2ef2cc38d9ea   took 12 s\n…\nend", printed) is None
    assert missing_line("run … took 1 s", printed) is None
    assert missing_line("end\nstarted", printed) == "started"
    assert missing_line("run 17 took 12 s", printed) == "run 17 took 12 s"
