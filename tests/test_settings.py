"""Study files: precedence, presets, variants, and mistakes told in one line."""

import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import presets, settings_reference, toml
from pipeline.checks import RUN_FOLDERS
from pipeline.errors import StudyError
from pipeline.settings import StudyFile, load_study, ready_made, resolved
from pipeline.toml import flatten
from stages.settings import Study

ROOT = Path(__file__).parent.parent
MINIMAL = '[tasks]\nexplore = "desk/free"\ntransfer = ["desk/push_left:sparse"]\n'


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a study file: what is given, before a minimal [tasks]."""

    def write(top: str = "", rest: str = "", tasks: str = MINIMAL) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(f"{top}\n{tasks}\n{rest}", encoding="utf-8")
        return path

    return write


def fails(path: Path | str, *overrides: str, preset: str | None = None) -> str:
    """The one line that loading a study ends with."""
    with pytest.raises(StudyError) as caught:
        load_study(path, preset, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_key_outside_tasks_has_a_default(write: Any) -> None:
    study = load_study(write()).first
    assert study.name == "mine"
    assert study.explore.steps == 16_000
    assert list(study.transfer.arms) == ["scratch", "model", "policy", "both"]


def test_precedence_goes_default_study_preset_variant_set(write: Any) -> None:
    path = write(
        rest="""
        [model]
        width = 64
        recurrent = 64
        layers = 3
        latents = 9
        [presets.big]
        model.recurrent = 512
        "model.layers" = 4
        model.latents = 10
        [[variants]]
        name = "a"
        set = { "model.layers" = 5, "model.latents" = 11 }
        """
    )
    model = load_study(path, "big", ["model.latents=12"]).variants["a"].model
    assert (model.classes, model.width, model.recurrent) == (8, 64, 512)
    assert (model.layers, model.latents) == (5, 12)
    assert load_study(path).first.model.recurrent == 64


def test_arms_are_lists_or_tables_and_replace_the_defaults(write: Any) -> None:
    path = write(
        rest='[transfer.arms]\nscratch = []\nprior = { carry = ["actor"], prior_steps = 50 }\n'
    )
    arms = load_study(path).first.transfer.arms
    assert list(arms) == ["scratch", "prior"]
    assert arms["prior"].components == ("actor",)
    assert arms["prior"].prior_steps == 50
    extended = load_study(path, None, ['transfer.arms.both=["policy", "world_model"]']).first
    assert list(extended.transfer.arms) == ["scratch", "prior", "both"]
    assert extended.transfer.arms["both"].components == ("encoder", "dynamics", "decoder", "actor")
    replaced = load_study(path, None, ["transfer.arms={only=[]}"]).first
    assert list(replaced.transfer.arms) == ["only"]


def test_set_on_a_study_without_arms_adds_to_the_four(write: Any) -> None:
    study = load_study(write(), None, ['transfer.arms.encoder=["encoder"]']).first
    assert list(study.transfer.arms) == ["scratch", "model", "policy", "both", "encoder"]


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("explore.stepz=5", ["explore.stepz = 5", "explore.steps"]),
        ("planing.learn=none", ["planing", "planning"]),
        ("steps=4", ["steps = 4", "explore.steps"]),
        ("explore.steps=1e4", ["explore.steps = 10000.0", "write 10000"]),
        ('explore.steps="16"', ['explore.steps = "16"', "integer"]),
        ("seeds=true", ["seeds = true", "integer"]),
        ("explore.steps=-1", ["explore.steps = -1", "greater than or equal to 0"]),
        ("explore.steps=nan", ["explore.steps = nan", "integer"]),
        ("seeds=[1, 1]", ["seeds = [1, 1]", "twice"]),
        ("seeds=0", ["seeds = 0", "at least one"]),
        ("agent.curiosity=rmd", ['"rmd"', "rnd"]),
        ("agent.world_model=none", ["transfer.arms.model.carry", "no dynamics", '"none"']),
        ("planning.search.depht=2", ["planning.search.depht", "planning.search.depth"]),
        ("planning.collect=mcp", ["planning.collect", '"mcp"', "cem"]),
        ("planning.learn=cme", ["planning.learn", '"cme"', "cem"]),
        ("planning.elites=200", ["planning.elites = 200", "planning.samples = 128"]),
        ("planning.std_to=2.0", ["planning.std_to = 2.0", "planning.std_from"]),
        ("tasks.explore=desk/fre", ["tasks.explore", "desk/fre", "desk/free"]),
        ('tasks.transfer=["desk/push_lef"]', ["tasks.transfer", "desk/push_left"]),
        ('tasks.transfer=["desk/reach", "desk/reach"]', ["desk/reach", "twice"]),
        ('transfer.arms.x=["modl"]', ["transfer.arms.x.carry", "modl", "world_model"]),
        ("transfer.arms.random=[]", ["transfer.arms.random", "reference"]),
        ("transfer.arms.both.cary=[]", ["transfer.arms.both.cary", "transfer.arms.both.carry"]),
        ("transfer.arms.x={prior_steps=99_999}", ["prior_steps = 99999", "transfer.steps"]),
        ("explore.steps=0", ["transfer.arms.model", "explore.steps = 0"]),
        ("explore.steps=839", ["explore.steps = 839", "prefill_steps = 800", "at least 840"]),
        ("training.prefill_steps=6_000", ["transfer.steps = 6000", "at least 6040"]),
        ("model.blocks=7", ["model.blocks = 7", "model.recurrent"]),
        ("behaviour.lambda_=0.9", ["behaviour.lambda_", "behaviour.lambda"]),
        ("explore=3", ["explore = 3", "table"]),
        ("explore.steps.x=3", ["explore.steps.x", "not a table"]),
        ("nonsense", ["--set nonsense", "KEY=VALUE"]),
        ('explore.steps="a b', ["TOML"]),
    ],
)
def test_a_mistake_names_key_value_and_what_would_be_right(override: str, parts: list[str]) -> None:
    message = fails("desk", override)
    assert all(part in message for part in parts), message
    assert "--set" in message or "desk.toml" in message


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("training.batch_length=10", ["training.batch_length = 10", "muzero.unroll", "11"]),
        ("agent.world_model=none planning.learn=cem", ["planning.learn", "no model to plan"]),
        ("agent.world_model=none planning.evaluate=cem", ["planning.evaluate", "no model to plan"]),
        ('agent.world_model=none evaluate.planners=["none","cem"]', ["planners", '"cem"', "leave"]),
        ('evaluate.planners=["cem","cem"]', ["evaluate.planners", "the same planner twice"]),
        ('evaluate.planners=["mtcs-12"]', ['"mtcs-12"', "no such planner; did you mean mcts-12?"]),
        ('evaluate.planners=["mcts-012"]', ["did you mean mcts-12?"]),
        ('evaluate.planners=["mcts-0"]', ["did you mean none? mcts of size 0 is the policy"]),
        ('evaluate.planners=["none-4"]', ["did you mean none?"]),
        ('evaluate.planners=["mcts-1234567"]', ["did you mean mcts?"]),
        ('evaluate.planners=["abba"]', ["valid: none, cem, mppi, mcts, or with a size, as in"]),
        ('evaluate.planners=["mppi-8"]', ["planning.elites", "at least mppi-16"]),
        ('agent.world_model=none evaluate.planners=["mcts-4"]', ['"mcts-4"', "leave"]),
        ('evaluate.planners=["mtcs-4@simulater"]', ["did you mean mcts-4@simulator?"]),
        ('evaluate.planners=["none@simulator"]', ["did you mean none?"]),
        ('evaluate.planners=["mcts@simulator"]', ["mcts@simulator", "maze"]),
        ('agent.world_model=rssm evaluate.planners=["mcts@simulator"]', ['only agents with "mu']),
        ("agent.world_model=none training.batch_length=5", ["batch_length = 5", "history = 6"]),
        ("training.batch_length=13 muzero.history=4", ["batch_length = 13", "history = 14"]),
        ("agent.world_model=none training.batch_length=8 muzero.history=4", ["history = 9"]),
    ],
)
def test_mistakes_of_a_muzero_study(override: str, parts: list[str]) -> None:
    message = fails("desk", "agent.world_model=muzero", *override.split())
    for part in parts:
        assert part in message


def test_a_mistake_in_a_file_names_the_file(write: Any) -> None:
    path = write(rest="[explore]\nstep = 3\n")
    assert fails(path).startswith(f"{path}: explore.step = 3: ")
    assert fails(write(top="seeds = [")).startswith(str(path))
    assert "desk" in fails("no-such-study")


def test_curiosity_none_may_carry_but_has_no_explorer(write: Any) -> None:
    study = load_study(write(), None, ["agent.curiosity=none"]).first
    assert study.transfer.arms["both"].components
    message = fails(write(), "agent.curiosity=none", 'transfer.arms.x=["explorer"]')
    assert "no explorer" in message


def test_no_exploration_is_fine_where_nothing_is_carried() -> None:
    load_study("desk", None, ["explore.steps=0", "transfer.arms={scratch=[]}"])
    load_study("desk", None, ["explore.steps=0"], exploration=False)


def test_steps_that_leave_no_update_are_fine_where_none_is_made_of_them(write: Any) -> None:
    relabelled = 'x = {carry = ["world_model"], relabelled_updates = 100}'
    for arm in (relabelled, "x = {equal_total = true}"):
        path = write(rest=f"[transfer]\nsteps = 100\n[transfer.arms]\n{arm}\n")
        assert load_study(path).first.transfer.steps == 100
    assert "transfer.steps = 100" in fails(write(rest="[transfer]\nsteps = 100\n"))
    assert load_study("desk", None, ["explore.steps=840", "transfer.steps=840"])


def test_duplicate_arms_and_variants_are_refused(write: Any) -> None:
    path = write(rest="[transfer.arms]\na = []\na = []\n")
    assert str(path) in fails(path)
    path = write(rest='[[variants]]\nname = "A"\n[[variants]]\nname = "a"\n')
    assert "variants[1].name" in fails(path)


@pytest.mark.parametrize("name", RUN_FOLDERS)
def test_a_variant_cannot_take_the_name_of_a_folder(write: Any, name: str) -> None:
    assert "taken" in fails(write(rest=f'[[variants]]\nname = "{name}"\n'))


def test_a_variant_is_checked_and_named_in_the_error(write: Any) -> None:
    path = write(rest='[[variants]]\nname = "v"\nset = { "planning.lern" = "none" }\n')
    assert "variant v" in fails(path)
    assert "planning.learn" in fails(path)
    path = write(rest='[[variants]]\nname = "v"\nsett = {}\n')
    assert "variants[0].sett" in fails(path)


def test_presets_change_sizes_only(write: Any) -> None:
    path = write(rest='[presets.smoke]\nagent.curiosity = "rnd"\n')
    assert "presets.smoke.agent.curiosity" in fails(path)
    assert "sizes only" in fails(path, preset="cpu")
    assert "smoke" in fails(write(), preset="smok")


def test_smoke_caps_and_never_enlarges(write: Any) -> None:
    path = write(
        top="seeds = [4, 5]",
        rest="[explore]\nsteps = 0\n[transfer]\nsteps = 300\n[transfer.arms]\nscratch = []\n",
    )
    study = load_study(path, "smoke").first
    assert study.seed_list == (4,)
    assert study.explore.steps == 0
    assert study.transfer.steps == 300
    assert study.model.width == 32


def test_smoke_scales_the_steps_of_a_prior() -> None:
    study = load_study("desk-full", "smoke").first
    assert study.transfer.arms["policy-prior"].prior_steps == study.transfer.steps // 4


def test_smoke_takes_what_the_study_says_of_it(write: Any) -> None:
    path = write(rest="[presets.smoke]\nexplore.steps = 900\n")
    assert load_study(path, "smoke").first.explore.steps == 900


@pytest.mark.parametrize("name", sorted(ready_made()))
def test_smoke_is_one_seed_few_tasks_and_short_episodes(name: str) -> None:
    study = load_study(name, "smoke").first
    assert len(study.seed_list) == 1
    assert len(study.tasks.transfer) <= 2
    assert study.tasks.episode_length is not None
    assert study.tasks.episode_length <= 50
    assert not study.training.overlap
    assert not load_study(name).first.training.overlap


@pytest.mark.parametrize("name", sorted(ready_made()))
def test_paper_takes_published_sizes_by_width(name: str) -> None:
    study = load_study(name, "paper", ["model.width=512"]).first
    model, training = study.model, study.training
    assert (model.recurrent, model.blocks, model.width) == (8 * 512, 8, 512)
    assert (model.latents, model.classes, model.image_depth) == (32, 32, 32)
    assert (training.batch_size, training.batch_length) == (16, 64)
    assert (training.precision, training.overlap) == ("bfloat16", True)
    assert study.behaviour.imagination_starts == 16 * 64
    assert study.tasks.image_size == 64


def test_an_override_wins_over_what_follows_the_width() -> None:
    assert load_study("desk", "paper", ["model.recurrent=1024"]).first.model.recurrent == 1024


def test_a_preset_of_its_own(write: Any) -> None:
    path = write(rest="[presets.tiny]\nexplore.steps = 1_700\n")
    assert load_study(path, "tiny").first.explore.steps == 1_700


def test_splits_are_written_out() -> None:
    tasks = load_study("metaworld-ml10").first.tasks.transfer
    assert len(tasks) == 5
    assert "metaworld/drawer-open" in tasks


def test_pipeline_toml_is_the_ready_made_desk() -> None:
    assert (ROOT / "pipeline.toml").read_text() == ready_made()["desk"].read_text()


@pytest.mark.parametrize("name", sorted(ready_made()))
@pytest.mark.parametrize("preset", presets.BUILT_IN)
def test_resolved_settings_read_back_the_same(name: str, preset: str, tmp_path: Path) -> None:
    study = load_study(name, preset).first
    path = tmp_path / "study.toml"
    path.write_text(toml.dumps(resolved(study)), encoding="utf-8")
    again = load_study(path).first
    assert again == study
    assert list(again.transfer.arms) == list(study.transfer.arms)


def test_every_size_is_a_setting() -> None:
    for dotted in presets.size_names():
        *sections, name = dotted.split(".")
        fields: Any = Study.model_fields
        for section in sections:
            fields = fields[section].annotation.model_fields
        assert name in fields, dotted
    for key in (*flatten(presets.SMOKE), *flatten(presets.paper(256))):
        assert presets.is_size(key), key


def test_settings_reference_is_up_to_date() -> None:
    text = settings_reference.TARGET.read_text(encoding="utf-8")
    assert text == settings_reference.reference(), "run python -m pipeline.settings_reference"


_names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1)
_values = st.recursive(
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_names, _values, max_size=4))
def test_what_is_written_as_toml_reads_back(table: dict[str, Any]) -> None:
    assert tomllib.loads(toml.dumps(table)) == table


@given(st.lists(_names, min_size=1, max_size=4))
def test_dotted_keys_round_trip(parts: list[str]) -> None:
    assert toml.split_key(toml.join_key(tuple(parts))) == tuple(parts)


@given(_values)
def test_set_reads_every_toml_value(value: Any) -> None:
    assert toml.parse_assignment(f"a.b={toml.show(value)}") == (("a", "b"), value)


def _leaves() -> dict[str, Any]:
    """Every plain setting with its description of what it may be, as JSON schema has it."""
    schema = Study.model_json_schema(by_alias=True)
    leaves: dict[str, Any] = {}
    for section, described in schema["properties"].items():
        name = described.get("$ref", "").rpartition("/")[2]
        for key, leaf in schema["$defs"].get(name, {}).get("properties", {}).items():
            leaves[f"{section}.{key}"] = leaf
    return {key: leaf for key, leaf in leaves.items() if "type" in leaf or "enum" in leaf}


_LEAVES = {key: leaf for key, leaf in _leaves().items() if leaf.get("type") != "object"}
_STRANGE = st.one_of(
    st.sampled_from([-1, 0, 1, 2**63, -0.5, 1e308, True, "", "none", "x/y", [], [1], {}, {"a": 1}]),
    _values,
)


def _valid(leaf: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values within the bounds of a plain setting."""
    if "enum" in leaf:
        return st.sampled_from(leaf["enum"])
    low = leaf.get("minimum", leaf.get("exclusiveMinimum", -1000))
    high = leaf.get("maximum", leaf.get("exclusiveMaximum", low + 1000))
    match leaf["type"]:
        case "integer":
            return st.integers(low, high)
        case "number":
            return st.floats(low, high, exclude_min=True, exclude_max="maximum" not in leaf)
        case "boolean":
            return st.booleans()
        case _:
            return st.just(leaf.get("default"))


_some_valid = st.lists(st.sampled_from(sorted(_LEAVES)), max_size=6, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries({key: _valid(_LEAVES[key]) for key in keys})
)


def _loaded(assignments: dict[str, Any]) -> StudyFile | str:
    """A study, or the line that refuses it."""
    sets = [f"{key}={toml.show(value)}" for key, value in assignments.items() if value is not None]
    try:
        return load_study("desk", None, sets)
    except StudyError as error:
        return str(error)


@given(_some_valid)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_valid_study_reads_back_from_its_resolved_form(assignments: dict[str, Any]) -> None:
    loaded = _loaded(assignments)
    if isinstance(loaded, str):  # valid each by itself, not together
        steps = ("explore.steps", "transfer.steps")  # too few for the other settings
        assert any(key in loaded for key in (*assignments, "transfer.arms", *steps)), loaded
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.toml"
        path.write_text(toml.dumps(resolved(loaded.first)), encoding="utf-8")
        assert load_study(path).first == loaded.first


@given(st.sampled_from(sorted(_LEAVES)), _STRANGE)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_of_any_key_is_valid_or_one_line_that_names_it(key: str, value: Any) -> None:
    loaded = _loaded({key: value})
    if isinstance(loaded, str):
        assert "\n" not in loaded
        section = key.partition(".")[0]
        related = (key, f"{section}.", "transfer.arms", "explore.steps", "transfer.steps")
        assert any(name in loaded for name in related), loaded


@given(st.text(max_size=30))
def test_any_text_after_set_loads_or_fails_in_one_line(text: str) -> None:
    message = ""
    try:
        load_study("desk", None, [text])
    except StudyError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1
