"""The report: what it says, that it stands alone, and that a browser agrees."""

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from stages import answers, exploration_figures, report
from stages.result_types import DesignResult, Effect, StudyResults, VariantResults
from stages.results import collect
from stages.settings import Arm
from tests import chromium, synthetic_run
from tests.synthetic_run import DESK

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    synthetic_run.write(root, image_open_loop=True)
    synthetic_run.replan(root, {"cem": 0.8, "mppi": 1.2})
    return report.run(root)


@pytest.fixture(scope="module")
def text(page: Path) -> str:
    return page.read_text()


def plain(html: str) -> str:
    body = re.sub(r"<(script|style).*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", body)).replace("\u202f", " ")


class Outline(HTMLParser):
    """Collects what a reader of a page's structure meets."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.sources: list[str] = []
        self.unnamed: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.sources += [named[key] or "" for key in ("src", "href") if key in named]
        alt = named.get("alt") if tag == "img" else named.get("aria-label")
        hidden = named.get("aria-hidden") == "true"
        if tag in ("svg", "img", "video") and not hidden and len(alt or "") < 20:
            self.unnamed.append(tag)


def test_answer_comes_first_with_intervals_and_seeds(text: str) -> None:
    words = plain(text)
    assert answers.QUESTION in words
    sentence = (
        r"On push_left:sparse, carrying both beat scratch: IQM \d+ \[\d+, \d+\] against "
        r"\d+ \[\d+, \d+\] over 3 seeds; the model contributes \+\d+ \[\+\d+, \+\d+\], the policy "
        r"\+\d+ \[\+\d+, \+\d+\], their interaction [+−]?\d+ \[[+−]?\d+, [+−]?\d+\]"
    )
    assert re.search(sentence, words)
    assert words.index("carrying both beat scratch") < words.index("Evidence")


def test_page_stands_alone(page: Path, text: str) -> None:
    sources = Outline(text).sources
    assert not [source for source in sources if re.match(r"(https?:)?//", source)]
    videos = [source for source in sources if source.endswith(".mp4")]
    assert len(videos) == 2 * 6 + 1  # four arms and two references on two tasks, and exploring
    assert all((page.parent / source).is_file() for source in [*videos, "results.json"])
    assert "@import" not in text
    assert "url(" not in text


def test_structure_reads_without_eyes(text: str) -> None:
    outline = Outline(text)
    assert outline.unnamed == []
    assert outline.headings.count(1) == 1
    assert '<html lang="en">' in text
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


def test_every_figure_says_what_stands_behind_it(text: str) -> None:
    captions = re.findall(r"</svg>\s*<figcaption>(.*?)</figcaption>", text)
    assert len(captions) > 10
    for caption in captions:
        assert re.search(r"\d (seeds?|runs?|pairs? of runs)|seed \d", caption), caption
        assert "env steps" in caption
        assert "updates" in caption


def test_curves_are_pictures_of_their_own(page: Path) -> None:
    picture = ElementTree.parse(page.parent / "figures" / "curves.svg").getroot()
    words = ["".join(text.itertext()) for text in picture.iter(f"{SVG}text")]
    assert words[: len(synthetic_run.ARMS)] == list(synthetic_run.ARMS)
    assert [word for word in words if word in DESK] == list(DESK)
    assert words[-1] == "interquartile means and 95 % bands of 3 seeds"
    lines = [path for path in picture.iter(f"{SVG}path") if path.get("class") == "line"]
    assert len(lines) == len(DESK) * len(synthetic_run.ARMS)
    left, top, width, height = map(float, picture.attrib["viewBox"].split())
    for text in picture.iter(f"{SVG}text"):
        assert left <= float(text.attrib["x"]) <= left + width
        assert top <= float(text.attrib["y"]) <= top + height


def test_a_picture_of_curves_for_each_variant_and_none_without_a_curve(tmp_path: Path) -> None:
    lifts = {"plain": 1.0, "better": 3.0}
    root = synthetic_run.write_variants(tmp_path, lifts, tasks=DESK[:1], seeds=1, videos=False)
    pictures = report.run(root).parent / "figures"
    assert {path.name for path in pictures.iterdir()} == {f"curves-{name}.svg" for name in lifts}
    assert "one seed, so no bands" in (pictures / "curves-plain.svg").read_text()
    for name in lifts:
        shutil.rmtree(root / name / "transfer")
    assert not (report.run(root).parent / "figures").exists()


def test_missing_video_shows_its_line(tmp_path: Path) -> None:
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], seeds=1, videos=False)
    words = plain(report.run(root).read_text())
    assert synthetic_run.VIDEO_LINE in words
    assert "Too few seeds to tell." in words
    assert not (root / "report" / "videos").exists()


def test_partial_runs_make_a_report(tmp_path: Path) -> None:
    """Whatever is taken away, the report is written and says what is missing."""
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], videos=False)
    for gone in ("evaluate", "explore", "transfer", "run.json"):
        path = root / gone
        path.unlink() if path.is_file() else shutil.rmtree(path)
        words = plain(report.run(root).read_text())
        assert re.search(r"run is not complete: \d+ things missing", words)
        assert not re.search(r"\bnan\b", words, re.IGNORECASE)
    assert "No answer yet." in words


def test_encoder_arm_changes_what_the_effects_mean(tmp_path: Path) -> None:
    arms = {**synthetic_run.ARMS, "encoder": ["encoder"], "own": ["encoder", "critic"]}
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], arms=arms, videos=False)
    words = plain(report.run(root).read_text())
    assert "The arm encoder is the origin" in words
    assert "both effects include the encoder" not in words


def test_crafter_shows_its_achievements(tmp_path: Path) -> None:
    root = synthetic_run.write(tmp_path, tasks=("crafter/reward",), videos=False)
    words = plain(report.run(root).read_text())
    assert "collect diamond" in words
    assert "On crafter/reward, carrying both beat scratch: IQM score" in words


def test_generalisation_is_a_curve_over_levels(tmp_path: Path) -> None:
    """A line per family of variants on unseen levels and on those of the training, and a table."""
    names = {f"{kind}-{n}": lift for kind, lift in (("none", 0.5), ("spr", 1.0)) for n in (10, 100)}
    root = synthetic_run.write_variants(
        tmp_path, names, tasks=DESK[:1], arms={"scratch": []}, seeds=2, videos=False
    )
    for name in names:
        synthetic_run.confine(root / name, int(name.split("-")[1]), 1.5)
    text = report.run(root).read_text()
    words = plain(text)
    assert Outline(text).unnamed == []
    for where in ("Unseen levels", "Levels of the training"):
        said = re.search(rf"{where} on desk/push_left:sparse, by how many levels[^\"]*", text)
        assert said is not None
        assert re.search(r"none [^;]*with 10, [^;]*with 100; spr [^;]*with 10,", said[0])
    assert words.count("On the levelsof the training") == len(names)  # heads of columns
    assert "scratch, seen" in words
    assert "scratch, unseen" in words


def test_planners_stand_side_by_side(text: str) -> None:
    words = plain(text)
    assert "Planner by planner: both" in words
    said = re.search(r"final agents of both on desk/push_left:sparse by planner: [^\"]*", text)
    assert said is not None
    assert re.search(r"none [^;]*\]; cem [^;]*\]; mppi [^;]*\]\.", said[0])
    said = re.search(r"less what came, both on desk/push_left:sparse: [^\"]*", text)
    assert said is not None
    assert re.search(
        r"none expected .*, \+1.0 .* too much; cem .*, \+1.6 .* mppi .*, \+2.4", said[0]
    )
    assert re.search(r'class="value"[^>]*>\+1\.0 \[', text)
    assert words.count("best of both") == len(DESK)
    assert "Planner by world model" not in words


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two variants, of which one gains by a planner and the other loses."""
    root = synthetic_run.write_variants(
        tmp_path_factory.mktemp("crossed"), {"plain": 1.0, "other": 2.0},
        arms={"scratch": []}, videos=False,
    )  # fmt: skip
    for name, lift in {"plain": 0.5, "other": 1.5}.items():
        synthetic_run.replan(root / name, {"cem": 0.9, "mppi": lift, "mcts": 0.8})
    study = root / "other" / "study.toml"
    study.write_text(study.read_text().replace('"rssm"', '"muzero"'))
    return report.run(root)


def test_planners_are_crossed_with_world_models(crossed: Path) -> None:
    text = crossed.read_text()
    assert Outline(text).unnamed == []
    said = re.findall(r"Planner by world model, ([^:\"]*:?[^:\"]*), scratch: ([^\"]*)", text)
    assert [task for task, _ in said] == [*DESK, "All tasks together"]
    for _, cells in said:
        assert re.search(
            r"plain \(rssm\): none .* best none; other \(muzero\): .* best mppi", cells
        )
    assert text.count("best of its row</span>") == 3 * 2
    assert text.count('class="framed cell"') == 3 * 2


def test_when_nothing_is_carried_the_answer_is_where_planning_helped(crossed: Path) -> None:
    words = plain(crossed.read_text())
    number = len(DESK)  # tasks; on each one planner of six helps
    assert answers.WHEN_TO_PLAN in words
    assert answers.CHANCE in words
    assert "agentrssm, muzero · disagreement" in words
    assert f"helped in {number} and hurt in {5 * number} of {6 * number} comparisons." in words
    for task in ("push_left:sparse", "open_drawer:sparse"):
        assert re.search(rf"on {task}, plain, mppi against none −\d", words)  # the worst
        assert re.search(rf"on {task}, other, mppi against none \+\d", words)
        assert re.search(rf"on {task}, other, mcts against none −\d", words)
        assert not re.search(rf"on {task}, \w+, cem against none", words)


def collected(root: Path) -> StudyResults:
    """The results of a run without variants."""
    found = collect(root)
    assert isinstance(found, StudyResults)
    return found


def test_planning_that_is_not_told_apart_is_said_to_be_so(tmp_path: Path) -> None:
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], seeds=2, videos=False)
    assert answers.planning_answer({None: collected(root)}) is None
    synthetic_run.replan(root, {"cem": 2.0})
    found = answers.planning_answer({None: collected(root)})
    assert found is not None  # two seeds are too few, whatever the gain
    assert found.verdict == "Planning is not shown to help or hurt."
    assert plain(report.run(root).read_text()).count(found.verdict) == 1


@pytest.mark.parametrize("confined", [True, False])
def test_more_planning_is_a_curve_per_variant(tmp_path: Path, confined: bool) -> None:
    """By simulations, on unseen levels and on those of the training, and one for who planned in the
    simulator; cem has one size, no curve."""
    root = synthetic_run.write_variants(
        tmp_path, {"muzero": 1.0, "true": 2.0}, tasks=DESK[:1], arms={"scratch": []}, videos=False
    )
    for name in ("muzero", "true"):
        if confined:
            synthetic_run.confine(root / name, 10, 1.5)
        lifts = {"mcts-16": 3.0, "cem-32": 0.5, "mcts-4": 2.0}
        true = {"mcts-16@simulator": 4.0, "mcts-4@simulator": 3.0} if name == "muzero" else {}
        synthetic_run.replan(root / name, lifts | true)
        study = root / name / "study.toml"
        study.write_text(study.read_text().replace('"rssm"', '"muzero"'))
    text = report.run(root).read_text()
    assert Outline(text).unnamed == []
    said = re.findall(r'"Values by how many (\w+) (\w+) has([^,]*), ([^"]*)"', text)
    line = r"\d[^;]* with 0, \d[^;]* with 4, \d[^;]* with 16"
    places = [" on unseen levels", " on levels of the training"] if confined else [""]
    assert [where for _, _, where, _ in said] == places
    for noun, kind, _, numbers in said:
        assert (noun, kind) == ("simulations", "mcts")
        names = ("muzero", r"muzero \(simulator\)", r"true \(muzero\)")
        shown = "; ".join(f"{name} {line}" for name in names)
        assert re.fullmatch(rf"{DESK[0]}, scratch: {shown}\.", numbers), numbers
    (cells,) = re.findall(rf"Planner by world model, {DESK[0]}, scratch: ([^\"]*)", text)[:1]
    row = r"none \d[^;]*, mcts-16 \d[^;]*, cem-32 [^;]*, mcts-4 [^;]*"
    simulated = r"mcts-16 \d[^;]*, mcts-4 [^;]*best mcts-16"
    whole = rf"muzero: {row}; muzero \(simulator\): {simulated}; true \(muzero\): {row}"
    assert re.fullmatch(whole, cells), cells
    heads = plain(text).count("On the levelsof the training")
    assert heads == (4 if confined else 0)  # two tables for each variant
    ticks = re.findall(r'class="tick"[^>]*"middle">(\d+)</text>', text)
    assert ticks.count("16") == len(places)  # at every size, where round numbers would be others


def test_who_collects_is_crossed_with_world_models(tmp_path: Path) -> None:
    names = {"rssm-none": 2.0, "rssm-mppi": 1.0, "mine-none": 1.0, "mine-mppi": 2.0, "other": 9.0}
    root = synthetic_run.write_variants(
        tmp_path, names, tasks=DESK[:1], arms={"both": ["world_model", "policy"]}, videos=False
    )
    for name in names:
        path = root / name / "study.toml"
        who = name.rpartition("-")[2].replace("other", "none")
        path.write_text(f'{path.read_text()}\n[planning]\ncollect = "{who}"\n')
    text = report.run(root).read_text()
    assert Outline(text).unnamed == []
    said = re.findall(r'"Planner while collecting by world model, ([^"]*)"', text)
    assert len(said) == 2  # picture and table
    line = r"none \d[^;]*, mppi \d[^;]*, best"
    shown = rf"{DESK[0]}, both: rssm: {line} none; mine \(rssm\): {line} mppi\."
    assert re.fullmatch(shown, said[0])
    assert "Planner by planner" not in text


def test_variants_are_compared_on_one_page(tmp_path: Path) -> None:
    root = synthetic_run.write_variants(
        tmp_path, {"plain": 1.0, "better": 3.0}, tasks=DESK[:1], videos=False
    )
    words = plain(report.run(root).read_text())
    assert "Against plain: 1 better, 0 worse, of 1 comparison." in words
    assert "on push_left:sparse, better beats plain" in words
    assert answers.QUESTION in words


def test_of_many_variants_the_best_and_the_worst_are_told(tmp_path: Path) -> None:
    lifts = {"plain": 2.0, "low": 1.5, "best": 4.0, "good": 3.5, "worst": 1.0, "fine": 3.0}
    root = synthetic_run.write_variants(tmp_path, lifts, tasks=DESK[:1], videos=False)
    words = plain(report.run(root).read_text())
    assert "of 5 comparisons." in words
    said = re.search(r"on push_left:sparse, best beats plain.*?stand below\.", words)
    assert said is not None
    assert re.findall(r"on push_left:sparse, (\w+)", said[0]) == ["best", "worst"]
    assert said[0].endswith("The other 3 stand below.")


def test_variants_without_a_task_in_common_are_answered_one_by_one(crossed: Path) -> None:
    found = collect(crossed.parent.parent)
    assert isinstance(found, VariantResults)
    arms = {"scratch": Arm()}
    assert answers.variants_answer(found, arms).verdict != "An answer per variant."
    apart = {
        name: variant.model_copy(update={"tasks": {task: variant.tasks[task]}})
        for task, (name, variant) in zip(DESK, found.variants.items(), strict=True)
    }
    found = found.model_copy(update={"variants": apart})
    assert answers.variants_answer(found, arms).verdict == "An answer per variant."


def test_variants_of_one_arm_are_asked_which_does_better(tmp_path: Path) -> None:
    """No variant has an answer of its own, and the references stand in the picture."""
    root = synthetic_run.write_variants(
        tmp_path, {"plain": 1.0, "better": 3.0}, tasks=DESK[:1], arms={"scratch": []}, videos=False
    )
    text = report.run(root).read_text()
    words = plain(text)
    assert answers.NOTHING_CARRIED in words
    assert answers.QUESTION not in words
    assert "No answer yet." not in words
    said = re.search(r"The arm scratch on desk/push_left:sparse under each variant: [^\"]*", text)
    assert said is not None
    assert re.search(r"plain .*; better .*\. .*random", said[0])


def test_shared_exploration_is_counted_once(tmp_path: Path) -> None:
    """Variants link the explorations they share; run.json lies above them."""
    root = synthetic_run.write_variants(
        tmp_path, {"plain": 1.0, "other": 1.0}, tasks=DESK[:1], videos=False
    )
    shutil.rmtree(root / "other" / "explore")
    (root / "other" / "explore").symlink_to("../plain/explore", target_is_directory=True)
    for name in ("plain", "other"):
        (root / name / "run.json").rename(root / "run.json")
    html = report.run(root).read_text()
    assert "plain: exploring, 3 jobs" in html
    assert "other: exploring" not in html
    assert "TFRT_CPU_0" in html


def test_open_loop_of_pictures_alone(tmp_path: Path) -> None:
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], videos=False, image_open_loop=True)
    for path in root.glob("explore/seed-*/open_loop.npz"):
        with np.load(path) as file:
            kept = {name: file[name] for name in file.files if name not in ("truth", "prediction")}
        np.savez(path, **kept)
    html = report.run(root).read_text()
    assert 'src="data:image/png;base64,' in html
    assert "Prediction against truth" not in html


def test_names_from_a_study_cannot_break_the_page(tmp_path: Path) -> None:
    task = 'my_cell.tasks:<b>"&'
    root = synthetic_run.write(tmp_path, tasks=DESK[:1], videos=False)
    job = root / "evaluate" / synthetic_run.slug(DESK[0]) / "both" / "seed-0" / "job.json"
    job.write_text('{"task": "my_cell.tasks:<b>\\"&", "arm": "both", "seed": 0}')
    html = report.run(root).read_text()
    assert '<b>"&' not in html
    assert task in plain(html).replace("&lt;", "<").replace("&gt;", ">").replace(
        "&#34;", '"'
    ).replace("&amp;", "&")


def side(name: str, low: float, high: float) -> answers.Side:
    return answers.Side(name, (low + high) / 2, (low, high), 3)


def effects(model: tuple[float, float], policy: tuple[float, float]) -> DesignResult:
    def effect(bounds: tuple[float, float]) -> Effect:
        return Effect(value=sum(bounds) / 2, interval=bounds, by_seed=[bounds[0], 0, bounds[1]])

    return DesignResult(
        origin="scratch", includes_encoder=True, seeds=[0, 1, 2],
        model=effect(model), policy=effect(policy), interaction=effect((-1, 1)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("better", "worse", "parts", "seeds", "expected"),
    [
        ((5, 9), (0, 1), ((1, 3), (1, 3)), 3, "Both carried the advantage"),
        ((5, 9), (0, 1), ((1, 3), (-1, 3)), 3, "The world model carried the advantage; an effect"),
        ((5, 9), (0, 1), ((1, 9), (-3, -1)), 3, "the policy held it back"),
        ((5, 9), (0, 1), ((-1, 9), (-1, 3)), 3, "which part did is not shown"),
        ((1, 9), (0, 2), ((-1, 9), (-1, 3)), 3, "No difference shown."),
        ((0, 1), (5, 9), ((-3, -1), (-3, -1)), 3, "Carrying both did worse than scratch."),
        ((5, 9), (0, 1), ((1, 3), (1, 3)), 2, "Too few seeds to tell."),
    ],
)
def test_verdict_claims_no_more_than_is_shown(
    better: tuple[float, float],
    worse: tuple[float, float],
    parts: tuple[tuple[float, float], tuple[float, float]],
    seeds: int,
    expected: str,
) -> None:
    found = answers.verdict(side("both", *better), side("scratch", *worse), effects(*parts), seeds)
    assert expected in found


@pytest.fixture(scope="module")
def browser() -> Iterator[chromium.Browser]:
    program = chromium.executable()
    if program is None:
        pytest.skip("no Chromium: install the package chromium, or set $CHROMIUM")
    with chromium.launch(program) as running:
        yield running


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_chromium_opens_the_report(
    browser: chromium.Browser, page: Path, width: int, dark: bool
) -> None:
    opened = browser.open(page, width=width, dark=dark)
    assert opened.errors == []
    assert opened.failed == []
    assert any(address.startswith("file:") for address in opened.requests)
    assert not [a for a in opened.requests if not a.startswith(("file:", "data:"))]
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    colour = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = sum(map(int, re.findall(r"\d+", colour)[:3])) / 3
    assert (lightness < 60) == dark


def test_chromium_shows_the_matrix_on_a_phone(browser: chromium.Browser, crossed: Path) -> None:
    opened = browser.open(crossed, width=390)
    assert opened.errors == []
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    wide = (
        "[...document.querySelectorAll('#planning .plot text')].every(t => {"
        "const box = t.getBoundingClientRect(), at = t.closest('figure').getBoundingClientRect();"
        "return box.left >= at.left - 1 && box.right <= at.right + 1; })"
    )
    assert browser.evaluate(wide)


def test_chromium_decodes_the_films(browser: chromium.Browser, page: Path) -> None:
    browser.open(page)
    states = browser.evaluate("[...document.querySelectorAll('video')].map(v => v.error === null)")
    assert states == [True] * 13
    assert browser.evaluate("document.querySelector('video').videoWidth") == 96


def test_chromium_helper_sees_errors(browser: chromium.Browser, tmp_path: Path) -> None:
    """The checks above can fail: a broken page is told."""
    path = tmp_path / "broken.html"
    path.write_text('<img src="gone.png"><script>console.error("oh"); missing()</script>')
    opened = browser.open(path)
    assert len(opened.errors) >= 2
    assert opened.failed


def test_a_number_that_trembles_does_not_count_as_error() -> None:
    steps = np.arange(20.0)
    truth = np.stack([np.sin(steps), 1e-7 * (steps % 2)], 1)
    off = np.array([0.5, 0.5])  # the second is millions of its own spreads
    error, still = exploration_figures.errors(truth, truth + off, 5)
    np.testing.assert_allclose(error, 0.5 / truth[:, 0].std())
    assert len(still) == 15
