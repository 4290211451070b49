"""The page in a real browser."""

import json
import subprocess
import sys

import pytest

from benchmarks.generated import as_text, drawn
from cwbench.leaderboard.build import build
from cwbench.leaderboard.layout import JSON, PAGE
from cwbench.leaderboard.submit import submit

MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture
def built(board):
    build(board)
    content = json.loads((board.root / JSON).read_text())
    return f"file://{board.root / PAGE}", content["tables"][0]


def names(page):
    return page.locator("table.ranking tbody tr:visible th").all_text_contents()  # those out of sight are not laid out


def test_it_opens_from_a_file_in_the_order_of_the_board(opened, built):
    url, table = built
    page = opened(url)
    assert names(page) == [row["subject"] for row in table["rows"]]
    assert page.get_by_role("status").inner_text() == "6 of 6 rows"


def test_it_sorts_by_a_click_and_by_the_keyboard_and_the_link_keeps_it(opened, built):
    url, table = built
    page = opened(url)
    page.get_by_role("button", name="gap").click()
    rising = sorted(table["rows"], key=lambda row: row["conditions"]["worst case"]["gap"])
    assert names(page) == [row["subject"] for row in rising]
    head = page.locator("th[data-sort=gap]")
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    falling = names(page)
    assert sorted(falling) == sorted(row["subject"] for row in rising)
    assert falling[0] == rising[-1]["subject"]
    assert names(opened(page.url)) == falling


def test_it_filters_and_searches(opened, place, run, template):
    from cwbench.internal.exact_number import Exact
    from cwbench.report.records import DataRecord

    other = template.threat.model_copy(update={"eps": Exact(text="1/8", value=0.125)})
    more = DataRecord(kind="labelled", labelled=5000, unlabelled=0, description="more digits")
    training = template.training.model_copy(update={"data": more})
    report, predictions = drawn(template, 3, training=training.model_copy(update={"checkpoint": "3" * 64}))
    from benchmarks.generated import write

    submit([run(1), run(2, threat=other), write(report, predictions, place.root.parent / "three")], place)
    build(place)
    page = opened(f"file://{place.root / PAGE}")
    assert page.locator("section.table:visible").count() == 2
    page.get_by_label("Threat").select_option("Linf eps 0.125")
    assert names(page) == ["defense-00002"]
    page.get_by_label("Threat").select_option("")
    page.get_by_label("Extra data").select_option("labelled")
    assert names(page) == ["defense-00003"]
    page.get_by_label("Extra data").select_option("")
    page.get_by_label("Search").fill("00001 digits-cnn")
    assert names(page) == ["defense-00001"]
    assert page.get_by_role("status").inner_text() == "1 of 3 rows"
    assert names(opened(page.url)) == ["defense-00001"]
    page.get_by_label("Search").fill("nobody")
    assert names(page) == []


def test_access_judges_by_the_strongest_attack_of_its_kind(opened, built):
    url, table = built
    page = opened(url)
    page.get_by_label("Access").select_option("score")
    shown = dict(
        zip(names(page), page.locator("table.ranking tbody tr td:nth-child(9)").all_inner_texts(), strict=True)
    )
    for row in table["rows"]:
        assert shown[row["subject"]] == f"{100 * row['conditions']['square:queries=1000']['overall']:.1f}"
    assert "judged by the strongest score attack" in page.get_by_role("status").inner_text()


def test_the_heat_map_has_every_number(opened, built):
    url, table = built
    page = opened(f"{url}#view=heat")
    rows = page.locator("table.heat tbody tr")
    for index, row in enumerate(table["rows"]):
        expected = [f"{100 * share:.1f}" for share in row["conditions"]["worst case"]["classes"]]
        assert rows.nth(index).locator("td").all_inner_texts() == expected


def test_an_entry_shows_intervals_confusion_cost_and_origin(opened, board, built):
    url, table = built
    page = opened(url)
    first = table["rows"][0]
    page.get_by_role("link", name=first["subject"]).click()
    report = json.loads(next(path for path in board.files() if path.stem == first["entries"][0]).read_text())
    assert page.locator("h2").first.inner_text().startswith(f"{first['subject']} on digits, Linf eps 0.1, seed 0")
    page.get_by_role("combobox", name="Under").select_option("pgd")
    (pgd,) = (attack for attack in report["attacks"] if attack["label"] == "pgd")
    bars = page.locator("svg text").all_text_contents()
    for entry in pgd["figures"]["classes"]:
        low, high = entry["interval"]
        assert f"{100 * entry['accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]" in bars
    cells = page.locator("table.matrix").first.locator("tbody tr").nth(3).locator("td").all_inner_texts()
    assert cells == [str(count) if count else "·" for count in pgd["confusion"][3]]
    assert report["training"]["checkpoint"] in page.locator("dl").last.inner_text()
    link = page.url
    assert "not verified" in page.locator("#detail").inner_text()
    again = opened(link)
    assert again.locator("#detail").inner_text() == page.locator("#detail").inner_text()
    page.get_by_role("link", name="← all tables").click()
    assert len(names(page)) == 6
    assert "There is no entry" in opened(f"{url}#entry=nobody").locator("#detail").inner_text()


def test_two_entries_side_by_side(opened, built):
    url, table = built
    page = opened(url)
    assert page.get_by_role("button", name="Compare two").is_disabled()
    for row in table["rows"][:3]:
        page.get_by_label(f"Compare {row['subject']}").check()
    assert page.locator("input:checked").count() == 2, "the first choice gave way to the third"
    page.get_by_role("button", name="Compare two").click()
    (a, b) = (row["conditions"]["worst case"]["classes"] for row in table["rows"][1:3])
    for index, row in enumerate(page.locator("#detail tbody tr").all()):
        cells = row.locator("td").all_inner_texts()
        difference = float(cells[3].replace("−", "-"))
        assert difference == pytest.approx(100 * (b[index] - a[index]), abs=0.051)


def test_a_hostile_entry_is_text(opened, run, place, template):
    classes = [MARKUP, *map(str, range(1, 10))]
    submit([run(1, subject=MARKUP, dataset=template.dataset.model_copy(update={"classes": classes})), run(2)], place)
    build(place)
    page = opened(f"file://{place.root / PAGE}")
    assert MARKUP in names(page)
    page.get_by_role("link", name=MARKUP).click()
    assert page.locator("h2").first.inner_text().startswith(MARKUP)
    assert page.locator("img").count() == 0
    assert MARKUP in page.locator("#detail table.heat").inner_text()


def test_it_reads_without_its_script_and_on_a_phone(opened, built):
    url, table = built
    page = opened(url, java_script_enabled=False)
    assert names(page) == [row["subject"] for row in table["rows"]]
    phone = opened(url, viewport={"width": 390, "height": 800})
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    box = phone.locator("th[data-sort=worst]").bounding_box()
    assert box["x"] + box["width"] <= 390, "the worst class is what one came for"


def test_colours_follow_the_reader(opened, built):
    url, _ = built
    pages = [opened(url, color_scheme=scheme) for scheme in ("light", "dark")]
    light, dark = (page.evaluate("getComputedStyle(document.body).backgroundColor") for page in pages)
    assert light == "rgb(255, 255, 255)"
    assert dark != light


def test_a_board_of_a_thousand_rows_sorts_and_filters(opened, place, template):
    for number in range(1000):
        report, _ = drawn(template, number)
        path = place.path(report)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_text(report))
    build(place)
    page = opened(f"file://{place.root / PAGE}")
    page.get_by_role("button", name="worst class").click()
    values = [float(text) for text in page.locator("table.ranking tbody td:nth-child(10)").all_text_contents()]
    assert len(values) == 1000
    assert values == sorted(values, reverse=True)
    page.get_by_label("Search").fill("defense-00777")
    assert names(page) == ["defense-00777"]


def test_it_is_served_on_this_machine_only(opened, board):
    build(board)
    command = [sys.executable, "-m", "cwbench", "leaderboard", "serve", "--board", str(board.root), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().split()[0]
        assert url.startswith("http://127.0.0.1:")
        page = opened(url)
        assert len(names(page)) == 6
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
