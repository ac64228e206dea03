"""The page when something is lost: the bundle, a WebSocket, a message."""

from playwright.sync_api import Browser, Page, expect

from tests.page_site import GOOD, SILENT, Site, a_page, button, ended, later, open_job, shoot

#: After so long a WebSocket that says nothing is looked at.
QUIET_S = 12
#: What the first WebSocket says is lost on its way when this is so, though it stays open.
LOSING = """
    window.opened_ = 0;
    const Real = WebSocket;
    window.WebSocket = class extends Real {
      constructor(...given) {
        super(...given);
        const first = (window.opened_ += 1) === 1;
        let seen = 0;
        this.addEventListener("message", (event) => {
          seen += 1;
          if (first && (%s)) event.stopImmediatePropagation();
        });
      }
    };
"""


def test_a_loss_is_shown_and_made_good(browser: Browser, page: Page, site: Site) -> None:
    id_ = site.job("/system/time", ["cg-001"])
    open_job(page, site, id_, "resolved")
    site.gateway.bundle.terminate()
    expect(page.locator("#link")).to_contain_text("not connected since")
    expect(button(page, "Delete")).to_be_disabled()
    expect(page.locator(".stopped")).to_have_text(
        "This page is not connected. These buttons work again by themselves."
    )
    shoot(page, "lost")
    site.gateway.bundle.start()
    expect(page.locator("#link")).to_have_text("connected")
    expect(button(page, "Delete")).to_be_enabled()
    ended(page, "resolved")


def test_a_websocket_that_has_gone_silent_is_left(browser: Browser, site: Site) -> None:
    """What the first one says is lost on its way from some moment on, though it stays open."""
    with a_page(browser) as page:
        page.clock.install()
        page.add_init_script(LOSING % "window.mute_")
        job = site.job("/system/info", SILENT[3:], requestTimeout=60)
        open_job(page, site, job)
        expect(button(page, "1 sent")).to_be_visible()
        page.evaluate("window.mute_ = true")
        site.ask("PUT", f"/jobs/{job}", {"status": "canceled", "force": True})
        later(page, QUIET_S)
        expect(page.locator(".job-head .badge")).to_have_text("canceled")
        assert page.evaluate("opened_") == 2


def test_the_list_notices_too(browser: Browser, site: Site) -> None:
    job = site.job("/system/time", ["cg-001"], name="looked at in the list", startAt="2100-01-01T00:00:00Z")
    with a_page(browser) as page:
        page.goto(f"{site.url}#/?text=looked at in the list")
        card = page.locator(".job")
        expect(card).to_contain_text("pending")
        same = "async () => (await import('/static/jobs.js')).JobsView.prototype.same.call(%s)"
        view = "{ask: async () => ({data: [{id: 1, status: 'pending', counts: {}}]}), jobs: [%s]}"
        assert page.evaluate(same % (view % "{id: 1, status: 'pending', counts: {}}"))
        assert not page.evaluate(same % (view % "{id: 1, status: 'resolved', counts: {}}"))
    site.ask("DELETE", f"/jobs/{job}")


def test_a_gap_begins_anew(browser: Browser, site: Site) -> None:
    """The second message of the first WebSocket never reaches the page."""
    with a_page(browser) as page:
        page.add_init_script(LOSING % "seen === 2")
        open_job(page, site, site.job("/system/time", GOOD[:12], concurrency=3), "resolved")
        assert page.evaluate("opened_") == 2
        expect(page.locator(".space .s-resolved")).to_have_count(12)
