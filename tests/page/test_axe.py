"""Each view as axe-core sees it: whether those who do not see the page, or see it badly, can use it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import needed
from tests.page_site import FAILING, GOOD, Site, a_page, button, ended, item

#: ``.ci/run`` fetches it: it is large, and no part of what is installed.
AXE = Path(__file__).parents[2] / ".tools" / "axe-core" / "axe.min.js"
WIDTHS = (1400, 700, 360)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
#: The rules that are broken, and by what.
RUN = """async () => (await axe.run()).violations.flatMap(({id, help, nodes}) =>
    nodes.map(({target, failureSummary}) => [id, help, String(target), failureSummary]))"""
VIEWS: dict[str, Callable[[Page], None]] = {}


def view(path: str) -> Callable[[Callable[[Page], None]], None]:
    """What is decorated waits until the view at this path is as it is to be looked at."""

    def named(ready: Callable[[Page], None]) -> None:
        VIEWS[path] = ready

    return named


@view("#/")
def _list(page: Page) -> None:
    expect(page.locator(".job").first).to_be_visible()


@view("#/jobs/{job}")
def _job(page: Page) -> None:
    ended(page, "resolved, with failures")
    expect(page.locator(".space .row").first).to_be_visible()


@view("#/jobs/{job}/gateways")
def _map(page: Page) -> None:
    expect(page.locator("canvas")).to_be_visible()


@view("#/jobs/{job}/results")
def _results(page: Page) -> None:
    page.locator(".results summary").first.click()
    expect(page.locator(".results .below").first).to_be_visible()


@view("#/jobs/{job}/data")
def _data(page: Page) -> None:
    expect(page.get_by_label("The job as JSON")).to_contain_text("createdAt")


@view("#/jobs/{job}/timeline")
def _time_line(page: Page) -> None:
    expect(page.locator(".tabpanel:visible .events > li").first).to_be_visible()


@view("#/jobs/{job}?status=error")
def _request(page: Page) -> None:
    page.locator(".space .row").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()


@view("#/jobs/{job}?status=timeout")
def _question(page: Page) -> None:
    button(page, "Delete").click()
    expect(page.get_by_role("dialog").get_by_role("button", name="Delete")).to_be_enabled()


@view("#/new")
def _faults(page: Page) -> None:
    page.get_by_text("Policies").click()
    button(page, "Dry run").click()
    expect(page.get_by_role("alert").filter(has_text="missing or wrong")).to_be_visible()


@view("#/new?by=fit&match=cg-*")
def _plan(page: Page) -> None:
    page.get_by_label("PUT").check()
    page.get_by_label("Resource").fill("/system/time")
    button(page, "Dry run").click()
    expect(button(page, re.compile("^Start: "))).to_be_enabled()


@view("#/gateways")
def _gateways(page: Page) -> None:
    page.get_by_role("checkbox").nth(1).check()


@view("#/gateways/cg-101")
def _gateway(page: Page) -> None:
    page.get_by_label("Labels", exact=True).fill("a=b a=c")
    button(page, "Save labels and note").click()
    expect(page.get_by_role("form").get_by_role("alert")).to_be_visible()


@view("#/templates")
def _templates(page: Page) -> None:
    expect(page.get_by_role("link", name="looked at")).to_be_visible()


@view("#/templates/{template}")
def _template(page: Page) -> None:
    button(page, "Show the next starts").click()
    expect(page.locator(".seen li")).to_have_count(5)


@view("#/nowhere")
def _nowhere(page: Page) -> None:
    button(page, "Keys").click()
    expect(page.get_by_role("dialog")).to_be_visible()


@pytest.fixture(scope="module")
def job(site: Site) -> int:
    return site.job("/system/info", [*GOOD[:9], *FAILING], waves=[1, "50%"], gate={"errors": "100%"})


@pytest.fixture(scope="module")
def template(site: Site) -> int:
    batch = [item("get", "/system/time", GOOD[:3])]
    schedule = {"cron": "0 3 * * *", "timezone": "UTC"}
    kept = site.ask(
        "POST", "/templates", {"name": "looked at", "job": {"batch": batch}, "schedule": schedule}
    )
    return int(kept["id"])


@pytest.mark.parametrize("path", VIEWS)
def test_axe_finds_nothing_wrong(browser: Browser, site: Site, job: int, template: int, path: str) -> None:
    needed(AXE.exists(), "axe-core")
    with a_page(browser) as page:
        page.emulate_media(reduced_motion="reduce")  # what is half faded in has less contrast
        page.context.add_init_script(path=AXE)
        page.goto(f"{site.url}{path.format(job=job, template=template)}")
        VIEWS[path](page)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                assert page.evaluate(RUN) == [], (width, scheme)
