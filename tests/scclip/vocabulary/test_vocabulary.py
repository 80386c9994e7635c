"""Vocabularies: the built-in ones against the oracle, every lint message with its line, features against open_clip."""

import json
import pickle
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import yaml
from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from scclip.vocabulary.lint import VocabularyError
from scclip.vocabulary.text_features import encode_queries
from scclip.vocabulary.vocabulary import Vocabulary, VocabularyClass, builtin_names, imagenet_templates

ORACLE = Path(__file__).with_name("data") / "benchmark_queries.json"
SHARED = Path(__file__).parents[3] / ".." / "shared" / "data" / "benchmark_queries.json"
WITH_BACKGROUND = {"voc21", "coco_object", "context60"}
SETTINGS = {"voc21": (50, 0.15, 0.1), "context60": (40, 0.15, 0), "coco_object": (55, 0.35, 0)}  # scale, thresholds
COUNTS = {  # categories (with background), of which marked as things
    "voc21": (21, 20),
    "voc20": (20, 20),
    "context60": (60, 20),
    "context59": (59, 20),
    "coco_object": (81, 80),
    "coco_stuff": (171, 80),
    "cityscapes": (19, 8),
    "ade20k": (150, 100),
}
STREET = """\
name: street
background: [sky, wall]
classes:
  - {name: car, synonyms: [car, sedan], thing: true, threshold: 0.3}
  - road
templates: ["a {}.", "the {} there"]
logit_scale: 50
threshold: 0.1
"""


def parsed(text: str, source: str = "vocabulary.yaml") -> Vocabulary:
    """The vocabulary of a file with this text."""
    return Vocabulary.parse(text.encode(), source)


# --- built-in vocabularies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_builtin_equals_oracle(name: str) -> None:
    oracle = json.loads(ORACLE.read_text())[name]
    vocabulary = Vocabulary.load(name)
    offset = 0 if name in WITH_BACKGROUND else 1
    expected = [(query, index + offset) for index, queries in enumerate(oracle) for query in queries]
    assert list(zip(vocabulary.queries, vocabulary.query_category, strict=True)) == expected
    assert bool(vocabulary.background) == (name in WITH_BACKGROUND)
    things = sum(entry.thing is True for entry in vocabulary.classes)
    assert (len(vocabulary.categories), things) == COUNTS[name]
    settings = (vocabulary.logit_scale, vocabulary.threshold, vocabulary.area_threshold)
    assert settings == SETTINGS.get(name, (40, 0, 0))
    assert vocabulary.name == name and vocabulary.templates == imagenet_templates()
    if name == "coco_object":
        assert len(vocabulary.warnings) == 1 and '"bed"' in vocabulary.warnings[0]
    else:
        assert not vocabulary.warnings


def test_builtin_class_names_are_mmsegmentations() -> None:
    def named(name: str) -> dict[str, tuple[str, ...]]:
        return {entry.name: entry.synonyms for entry in Vocabulary.load(name).classes}

    assert named("voc21")["boat"] == ("ship",) and named("voc20")["diningtable"] == ("table",)
    assert named("voc21")["tvmonitor"][0] == "television monitor"
    for name in ("ade20k", "coco_stuff", "cityscapes"):
        assert named(name)["traffic light"] == ("trafficlight",)
        assert all(queries == (key.replace(" ", ""),) for key, queries in named(name).items())
    assert all(queries[0] == key for key, queries in named("coco_object").items())


def test_builtin_names_lists_the_folder() -> None:
    assert set(COUNTS) <= set(builtin_names()) and len(imagenet_templates()) == 80


def test_imagenet_templates_are_open_clips() -> None:
    assert imagenet_templates() == tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)


@pytest.mark.skipif(not SHARED.exists(), reason="the original of the oracle is not here")
def test_oracle_is_the_original() -> None:
    assert ORACLE.read_bytes() == SHARED.read_bytes()


# --- the three forms ---------------------------------------------------------------------------------------------


def test_yaml_fields_and_category_arithmetic() -> None:
    street = parsed(STREET, "other.yaml")
    assert street == Vocabulary(
        name="street",
        background=("sky", "wall"),
        classes=(
            VocabularyClass(name="car", synonyms=("car", "sedan"), thing=True, threshold=0.3),
            VocabularyClass(name="road"),
        ),
        templates=("a {}.", "the {} there"),
        logit_scale=50,
        threshold=0.1,
    )
    assert street.queries == ("sky", "wall", "car", "sedan", "road")
    assert street.query_category == (0, 0, 1, 1, 2)
    assert dict(street.categories) == {0: "background", 1: "car", 2: "road"}
    assert street.thresholds == {0: 0.1, 1: 0.3, 2: 0.1}
    assert replace(street, threshold=0.2).thresholds == {0: 0.2, 1: 0.3, 2: 0.2}
    assert street.warnings == ()
    assert {type(text) for text in (street.name, *street.queries, *street.templates)} == {str}


def test_text_form_skips_comments_and_blanks(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeff# things\r\n\r\ncar, sedan  # both\r\n Straße \r\nC# code".encode())
    vocabulary = Vocabulary.load(str(path))
    assert [(entry.name, entry.synonyms) for entry in vocabulary.classes] == [
        ("car", ("car", "sedan")),
        ("Straße", ("Straße",)),
        ("C# code", ("C# code",)),
    ]
    assert (vocabulary.name, vocabulary.background, vocabulary.logit_scale) == ("words", (), 40.0)
    assert dict(vocabulary.categories) == {1: "car", 2: "Straße", 3: "C# code"}
    assert parsed(path.read_text("utf-8-sig"), "words.txt") == vocabulary


@pytest.mark.parametrize("name", [*sorted(COUNTS), "street", "odd"])
def test_round_trip_through_json_and_yaml(name: str) -> None:
    odd = Vocabulary(name="odd ☃", classes=(VocabularyClass(name="no", synonyms=("#1: a", "😀"), threshold=1e-7),))
    vocabulary = {"street": parsed(STREET), "odd": odd}.get(name) or Vocabulary.load(name)
    for text in (
        json.dumps(vocabulary.to_dict(), ensure_ascii=False),
        yaml.safe_dump(vocabulary.to_dict(), allow_unicode=True),
    ):
        again = parsed(text)
        assert again == vocabulary and again.digest() == vocabulary.digest()
    assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary


def test_digest_changes_with_everything_written_out() -> None:
    street = parsed(STREET)
    car, road = street.classes
    changed = [
        replace(street, name="town"),
        replace(street, background=()),
        replace(street, background=("wall", "sky")),
        replace(street, classes=(road, car)),
        replace(street, classes=(replace(car, synonyms=("sedan", "car")), road)),
        replace(street, classes=(replace(car, thing=None), road)),
        replace(street, classes=(replace(car, threshold=0.31), road)),
        replace(street, classes=(car, replace(road, name="street", synonyms=("road",)))),
        replace(street, templates=street.templates[:1]),
        replace(street, logit_scale=51),
        replace(street, threshold=0.2),
        replace(street, area_threshold=0.1),
    ]
    digests = {vocabulary.digest() for vocabulary in [street, *changed]}
    assert len(digests) == len(changed) + 1
    assert replace(street, warnings=("watch out",)).digest() == street.digest()
    # pinned: the digest is part of the fingerprint of runs on disk
    assert street.digest() == "5048a54881bbc58fe5f01fb2a9ba8b1121c5d5b98ce1b226ecb7e9ffbe258596"


# --- lint --------------------------------------------------------------------------------------------------------

YAML_PROBLEMS = [
    ("classes:\n- car\n- bus\n- car\n", 'line 4: class "car" is there already (line 2); remove one of them'),
    ("classes:\n- car\n- Car \n", 'line 3: class "Car" is there already (line 2)'),
    (
        "classes:\n- car\n- name: vehicle\n  synonyms:\n  - bus\n  - car\n",
        'line 6: synonym "car" already belongs to class "car" (line 2); remove one of them',
    ),
    ("classes:\n- {name: a, synonyms: [x,\n   y, x]}\n", 'line 3: synonym "x" already belongs to class "a" (line 2)'),
    ("background: [sky,\n  sky]\nclasses: [a]\n", 'line 2: synonym "sky" already belongs to the background (line 1)'),
    ("classes:\n- a\n- {name: b, synonyms: [c, '']}\n", "line 3: empty prompt"),
    ("classes:\n- a\n-\n", "line 3: empty class name"),
    ("classes: [a]\nbackground: ['  ']\n", "line 2: empty prompt"),
    ("name: ''\nclasses: [a]\n", "line 1: empty name"),
    ("classes:\n- a\u200bb\n", "line 2: class name holds the unprintable character U+200B"),
    ('classes:\n- "a\\nb"\n', "line 2: class name holds the unprintable character U+000A"),
    ("classes: [a]\ntemplate: imagenet\n", 'line 2: unknown key "template"; did you mean "templates"?'),
    ("classes: [a]\nzzz: 1\n", 'line 2: unknown key "zzz"; known are name, background'),
    ("classes:\n- a\n- {name: b,\n   synonym: [c]}\n", 'line 4: unknown key "synonym"; did you mean "synonyms"?'),
    ("classes: [a]\nname: b\nname: c\n", 'line 3: key "name" is there already'),
    ("classes:\n- a\n- synonyms: [b]\n", "line 3: a class needs a name"),
    ("classes:\n- a\n- no\n", "line 3: class name no is a yes/no value to YAML; put it into quotes"),
    ("classes:\n- 12\n", "line 2: class name 12 is a number to YAML; put it into quotes"),
    ("classes:\n- [a]\n", "line 2: class name must be text"),
    ("classes: car\n", "line 1: classes must be a list"),
    ("- car\n- bus\n", "line 1: a vocabulary must be a mapping with the keys name, background, classes"),
    ("classes: [a]\nbackground: sky\n", "line 2: background must be a list"),
    ("classes:\n- {name: a, synonyms: b}\n", "line 2: synonyms must be a list"),
    ("classes:\n- {name: a, synonyms: []}\n", "line 2: synonyms is an empty list"),
    ("classes:\n- {name: a, thing: 1}\n", "line 2: thing must be true or false"),
    ("classes:\n- {name: a, threshold: 1.5}\n", "line 2: threshold 1.5 must lie between 0 and 1"),
    ("classes:\n- {name: a, threshold: '0.5'}\n", "line 2: threshold must be a number"),
    ("classes: [a]\nthreshold: -0.1\n", "line 2: threshold -0.1 must lie between 0 and 1"),
    ("classes: [a]\narea_threshold: nan\n", "line 2: area_threshold nan must lie between 0 and 1"),
    ("classes: [a]\nthreshold: true\n", "line 2: threshold must be a number"),
    ("classes: [a]\nthreshold: [0.1]\n", "line 2: threshold must be a number"),
    ("classes: [a]\nlogit_scale: 0\n", "line 2: logit_scale 0 must be finite and above 0"),
    ("classes: [a]\nlogit_scale: inf\n", "line 2: logit_scale inf must be finite and above 0"),
    ("classes: [a]\ntemplates:\n- a {}\n- a\n", 'line 4: template "a" must hold {} once'),
    ("classes: [a]\ntemplates:\n- '{} {}'\n", 'line 3: template "{} {}" must hold {} once'),
    ("classes: [a]\ntemplates: simple\n", "line 2: templates must be imagenet or a list"),
    ("classes: [a]\ntemplates: []\n", "line 2: templates must be imagenet or a list"),
    ("background: [sky]\nclasses: [a,\n background]\n", 'line 3: class "background" and the key background clash'),
    ("name: x\n", ": no class at all; list at least one"),
    ("classes: []\n", ": no class at all; list at least one"),
    ("", ": no class at all; list at least one"),
    ("name: x\nclasses: [a, b\n", "line 3 column 1: not valid YAML: expected ',' or ']'"),
    ("classes:\n- a\n\t- b\n", "line 3 column 1: not valid YAML: "),
    ("a: 1\n---\nb: 1\n", "line 2 column 1: not valid YAML: "),
    ("classes: *nothing\n", "line 1 column 10: not valid YAML: found undefined alias"),
    ("classes:\n- a\n- b\x00\n", "line 3: not a text file: special characters are not allowed"),
    ("classes: !!python/object/apply:os.system ['true']\n", "line 1: classes must be a list"),
    ("classes:\n- !!python/name:os.system ''\n", "line 2: class name must be text"),
    ("classes: &a [*a]\n", "line 1 column 14: not valid YAML: its aliases stand for more than 10,000 values"),
    ("classes: " + "[" * 3000 + "]" * 3000, "line 1 column 41: not valid YAML: nested deeper than 32 levels"),
]
TEXT_PROBLEMS = [
    ("car\n# c\n\ncar\n", 'line 4: class "car" is there already (line 1); remove one of them'),
    ("vehicle, car\nbus, car\n", 'line 2: synonym "car" already belongs to class "vehicle" (line 1); remove one of'),
    ("car, bus, Car\n", 'line 1: synonym "Car" already belongs to class "car" (line 1)'),
    ("a\ncar,\n", "line 2: empty prompt"),
    ("a\n,car\n", "line 2: empty class name"),
    ("a\nb\x00c\n", "line 2: class name holds the unprintable character U+0000"),
    ("# nothing\n\n", ": no class at all; list at least one"),
    ("a\n" + "word " * 76 + "\n", "line 2: prompt"),
    ("\n".join(f"c{i}" for i in range(4096)), ": 4096 classes, annotation ids hold 4095"),
]


def assert_one_line(error: VocabularyError, source: str, expected: str) -> None:
    message = str(error)
    start = source + ("" if expected.startswith(":") else " ")
    assert message.startswith(start + expected), message
    assert "\n" not in message and len(message) < 300


@pytest.mark.parametrize(("text", "expected"), YAML_PROBLEMS)
def test_yaml_problem_names_its_line(text: str, expected: str) -> None:
    with pytest.raises(VocabularyError) as caught:
        parsed(text, "street.yaml")
    assert_one_line(caught.value, "street.yaml", expected)


@pytest.mark.parametrize(("text", "expected"), TEXT_PROBLEMS)
def test_text_problem_names_its_line(text: str, expected: str) -> None:
    with pytest.raises(VocabularyError) as caught:
        parsed(text, "street.txt")
    assert_one_line(caught.value, "street.txt", expected)


def test_prompt_length_is_the_tokenizers() -> None:
    """77 tokens pass and 78 do not, in plain words and in letters that take several tokens each."""
    tokenizer = open_clip.SimpleTokenizer()
    for word in ("dog ", "ツ"):
        fits = max(
            (word * n for n in range(1, 76)), key=lambda q: (n := len(tokenizer.encode(f"a {q}.")) + 2) * (n <= 77)
        )
        text = "classes:\n- road\n- {}\ntemplates: ['{{}}', 'a {{}}.']\n"
        assert parsed(text.format(fits)).classes[1].name == fits.strip()
        with pytest.raises(
            VocabularyError, match=r"street.yaml line 3: prompt .* has \d\d tokens in the template \"a {}"
        ):
            parsed(text.format(fits + word), "street.yaml")


def test_warnings_name_their_line() -> None:
    bed = parsed("background: [wall, bed]\nclasses:\n- bed\n", "room.yaml")
    assert bed.warnings == (
        'room.yaml line 3: synonym "bed" already belongs to the background (line 1); remove one of them, '
        "or the background wins the tie",
    )
    assert "line 2" in parsed("car\nbackground\n", "words.txt").warnings[0]
    assert parsed("\n".join(f"c{i}" for i in range(200)), "words.txt").warnings == ()
    (many,) = parsed("\n".join(f"c{i}" for i in range(201)), "many.txt").warnings
    assert many.startswith("many.txt: 201 classes: ") and "\n" not in many


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("voc12", None, 'unknown vocabulary "voc12" (did you mean "voc2'),
        ("xyzzy", None, 'unknown vocabulary "xyzzy"; built in are ade20k, '),
        ("", None, 'unknown vocabulary ""; built in are '),
        ("gone.yaml", None, "vocabulary gone.yaml cannot be read: No such file or directory; check the path"),
        ("words.csv", b"car", "vocabulary words.csv: a vocabulary file ends in .txt, .yaml, .yml; rename it"),
        ("photo.txt", b"ab\n\x89PNG\r\n\x1a\n", "photo.txt line 2: not text in UTF-8; save it as UTF-8"),
        ("photo.yaml", b"\xff\xd8\xff\xe0", "photo.yaml line 1: not text in UTF-8; save it as UTF-8"),
        ("utf16.txt", "car".encode("utf-16"), "utf16.txt line 1: not text in UTF-8; save it as UTF-8"),
        ("folder.txt", "directory", "vocabulary folder.txt cannot be read: Is a directory; check the path"),
    ],
)
def test_load_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes | str | None, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if isinstance(data, bytes):
        (tmp_path / name).write_bytes(data)
    elif data:
        (tmp_path / name).mkdir()
    with pytest.raises(VocabularyError) as caught:
        Vocabulary.load(name)
    assert str(caught.value).startswith(expected) and "\n" not in str(caught.value)
    if expected.startswith("unknown"):
        assert str(caught.value).endswith("a path to a .txt or .yaml file works too")


def test_construction_is_checked_without_a_file() -> None:
    car = VocabularyClass(name="car")
    with pytest.raises(VocabularyError, match='vocabulary "v": synonym "car" already belongs to class "car"; remove'):
        Vocabulary(name="v", classes=(car, VocabularyClass(name="bus", synonyms=("car",))))
    with pytest.raises(VocabularyError, match=r'synonym "car" already belongs to class "a"'):
        Vocabulary(name="v", classes=(VocabularyClass(name="a", synonyms=("car", "car")),))
    with pytest.raises(VocabularyError, match="threshold 2 must lie between 0 and 1"):
        VocabularyClass(name="car", threshold=2)
    with pytest.raises(VocabularyError, match="logit_scale -1 must be finite"):
        replace(Vocabulary(name="v", classes=(car,)), logit_scale=-1)
    with pytest.raises(VocabularyError, match="no template"):
        Vocabulary(name="v", classes=(car,), templates=())


def test_the_largest_vocabulary_loads_in_seconds() -> None:
    lines = "".join(f"- {{name: thing {i}, synonyms: [thing {i}, other {i}]}}\n" for i in range(4095))
    start = time.perf_counter()
    vocabulary = parsed("classes:\n" + lines)
    assert time.perf_counter() - start < 15 and len(vocabulary.queries) == 8190


# --- text features -----------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The towers are tiny: more threads only wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_clip(kind: type = open_clip.CLIP, **text: object) -> torch.nn.Module:
    torch.manual_seed(0)
    text_cfg = CLIPTextCfg(width=32, heads=4, layers=3, **text)  # type: ignore[arg-type]
    model = kind(24, CLIPVisionCfg(layers=1, width=32, head_width=16, patch_size=16, image_size=32), text_cfg)
    for parameter in model.parameters():  # open_clip's own start is too small for positions and attention to matter
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def naive_features(model: torch.nn.Module, vocabulary: Vocabulary, context: int) -> np.ndarray:
    """Every query alone, all positions, by `model.encode_text`."""
    tokenizer, rows = open_clip.SimpleTokenizer(context_length=context), []
    for query in vocabulary.queries:
        tokens = tokenizer([template.replace("{}", query) for template in vocabulary.templates])
        with torch.no_grad():
            features = model.encode_text(tokens).float().numpy()
        mean = (features / np.linalg.norm(features, axis=1, keepdims=True)).mean(axis=0)
        rows.append(mean / np.linalg.norm(mean))
    return np.stack(rows)


TOWERS = {
    "clip": (open_clip.CLIP, {}, True),
    "linear projection": (open_clip.CLIP, {"proj_bias": True}, True),
    "short context": (open_clip.CLIP, {"context_length": 16}, True),
    "custom": (open_clip.CustomTextCLIP, {}, True),
    "custom, class token": (open_clip.CustomTextCLIP, {"embed_cls": True, "context_length": 77}, False),
    "last token": (open_clip.CLIP, {"pool_type": "last"}, False),
    "not causal": (open_clip.CustomTextCLIP, {"no_causal_mask": True}, False),
}


@pytest.mark.parametrize("name", TOWERS)
def test_features_equal_encode_text(name: str) -> None:
    kind, options, short = TOWERS[name]
    model = small_clip(kind, **options)
    templates = ("{}", "a photo of a {}.", "there are a great many of the {} here")
    words = [f"thing {i}" for i in range(70)]  # more than one group
    classes = (
        VocabularyClass(name="bed"),
        VocabularyClass(name="swivel chair"),
        *(VocabularyClass(name=w) for w in words),
    )
    vocabulary = Vocabulary(name="v", classes=classes, background=("sky", "bed"), templates=templates)
    context = int(options.get("context_length", 77))
    lengths: list[tuple[int, int]] = []
    tower = model.text if kind is open_clip.CustomTextCLIP else model
    hook = tower.transformer.register_forward_pre_hook(lambda _, args: lengths.append(tuple(args[0].shape[:2])))
    features = encode_queries(model, open_clip.SimpleTokenizer(context_length=context), vocabulary, batch_size=50)
    hook.remove()
    assert features.dtype == np.float32 and features.shape == (74, 24)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(features, naive_features(model, vocabulary, context), atol=1e-5)
    np.testing.assert_array_equal(features[1], features[2])  # "bed" of the background and of the class: encoded once
    assert sum(rows for rows, _ in lengths) == 73 * 3 and max(rows for rows, _ in lengths) == 50
    assert (max(length for _, length in lengths) <= 15) == short


def test_features_in_low_precision() -> None:
    model = small_clip()
    vocabulary = parsed("car, sedan\nswivel chair", "words.txt")
    exact = encode_queries(model, open_clip.SimpleTokenizer(), vocabulary)
    low = encode_queries(model.to(torch.bfloat16), open_clip.SimpleTokenizer(), vocabulary)
    assert low.dtype == np.float32 and (low * exact).sum(axis=1).min() > 0.99
    np.testing.assert_allclose(np.linalg.norm(low, axis=1), 1, atol=1e-6)


def test_prompt_beyond_the_models_context_is_refused() -> None:
    model, tokenizer = small_clip(context_length=8), open_clip.SimpleTokenizer(context_length=8)
    vocabulary = Vocabulary(name="v", classes=(VocabularyClass(name="car"),), templates=("a very old {} there",))
    assert encode_queries(model, tokenizer, vocabulary).shape == (1, 24)  # 7 tokens
    for template, fits in (("my very old {} there !", True), ("my very old {} over there !", False)):
        longer = replace(vocabulary, templates=(template,))
        if fits:
            assert encode_queries(model, tokenizer, longer).shape == (1, 24)
        else:
            with pytest.raises(VocabularyError, match=r'"my very old car over there !": 9 tokens, this model reads 8'):
                encode_queries(model, tokenizer, longer)
