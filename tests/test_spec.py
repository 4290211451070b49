import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwbench.internal.errors import CwbenchError
from cwbench.internal.validation import validated
from cwbench.plugins.naming import PluginSpec
from cwbench.spec import RunSpec, read_config

names = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
scalars = st.one_of(
    st.booleans(), st.none(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
values = st.one_of(scalars, st.lists(scalars, max_size=3))


@given(names, st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), values, max_size=4))
def test_text_dictionary_and_json_are_one_spec(name, fields):
    spec = PluginSpec(name=name, fields=fields)
    assert PluginSpec.model_validate(str(spec)) == spec
    assert PluginSpec.model_validate_json(spec.model_dump_json()) == spec
    if fields and not set(fields) <= {"name", "fields"} and "name" not in fields:
        assert PluginSpec.model_validate({"name": name, **fields}) == spec


def test_the_text_of_the_readme():
    spec = PluginSpec.model_validate("pgd:steps=50,step_size=2/255,early_stop=false,ks=[1,2]")
    assert spec.fields == {"steps": 50, "step_size": "2/255", "early_stop": False, "ks": [1, 2]}
    assert str(spec) == "pgd:early_stop=false,ks=[1,2],step_size=2/255,steps=50"


def test_a_first_part_may_go_without_its_name():
    spec = PluginSpec.model_validate("folder:../some/dir,size=32")
    assert spec.fields == {"": "../some/dir", "size": 32}
    assert str(spec) == "folder:../some/dir,size=32"
    assert PluginSpec.model_validate(str(spec)) == spec


@pytest.mark.parametrize("bad", ["pgd:steps=1,restarts", "pgd:steps=", "pgd:=5", "pgd:steps=1,steps=2"])
def test_malformed_text_is_refused(bad):
    with pytest.raises(CwbenchError, match=r"is not field=value|is set twice"):
        validated(PluginSpec, bad, "attack")


def test_yaml_and_options_make_the_same_run(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("defense: {name: mart, beta: 6}\nattacks: pgd:steps=50\neps: 8/255\nset: {recipe.epochs: 2}\n")
    written = validated(RunSpec, read_config(file), "file")
    typed = RunSpec.model_validate(
        {"defense": "mart:beta=6", "attacks": ["pgd:steps=50"], "eps": "8/255", "set": {"recipe.epochs": 2}}
    )
    assert written == typed
    assert RunSpec.model_validate(json.loads(typed.model_dump_json())) == typed


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("defence: mart", "no field 'defence'.*did you mean defense"),
        ("attacks: pgd", "it names neither a defense nor a checkpoint"),
        ("defense: mart\ndefense: trades", "set twice"),
        ("[1, 2]", "must hold a mapping"),
        ("defense: [", "not valid YAML"),
        ("defense: mart\nlimit: 0", "limit.*greater than or equal to 1"),
        ("defense: mart\nseed: -1", "seed"),
        ("defense: mart\neps: 8/0", "divides by zero"),
        ("defense: !!python/object/apply:os.system [id]", "not valid YAML"),
    ],
)
def test_bad_run_files_get_one_line(tmp_path, text, complaint):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(CwbenchError, match=complaint) as caught:
        validated(RunSpec, read_config(file), "run.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_run_file_is_named(tmp_path):
    with pytest.raises(CwbenchError, match=r"cannot read .*nowhere\.yaml"):
        read_config(tmp_path / "nowhere.yaml")
