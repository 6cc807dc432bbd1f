"""``tables``: the repository's tables are what its files say; a changed digit is noticed; each kind and what it refuses."""

import json
import re
import sys
from pathlib import Path

import pytest
from conftest import write_study

from sb3_ddpg_ext.__main__ import main
from sb3_ddpg_ext.cli.reports.table_kinds import KINDS
from sb3_ddpg_ext.cli.reports.tables import BLOCK, DEFAULTS, OPENING

pytest.importorskip("scipy")
ROOT = Path(__file__).parent.parent
HEADER = "env,algo,seed,mean_return,std_return,episodes,threshold,train_episodes,train_steps,train_seconds"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["sb3_ddpg_ext", "tables", *map(str, arguments)])
    main()


@pytest.fixture
def make(tmp_path, monkeypatch):
    """The lines between the comments, for a request and files (name to content)."""

    def make(request, files=(), old=""):
        for name, content in dict(files).items():
            (tmp_path / name).write_text(content)
        (tmp_path / "page.md").write_text(f"Before.\n\n<!-- table: {request} -->\n{old}<!-- end -->\n\nAfter.\n")
        run(monkeypatch, "page.md", "--root", tmp_path)
        text = (tmp_path / "page.md").read_text()
        assert text.startswith("Before.\n\n<!-- table: ")
        assert text.endswith("\n\n<!-- end -->\n\nAfter.\n")
        run(monkeypatch, "page.md", "--root", tmp_path, "--check")
        return BLOCK.search(text)["table"].strip()

    return make


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def markdown_files():
    return [path for text in DEFAULTS for path in sorted(ROOT.glob(text)) if OPENING in path.read_text()]


def test_tables_of_the_repository(monkeypatch, capsys):
    """What stands in README and documentation is what the CSV and JSON files in results/ say."""
    run(monkeypatch, "--root", ROOT, "--check")
    assert "none changed" in capsys.readouterr().out
    assert sum(path.read_text().count(OPENING) for path in markdown_files()) >= 9


@pytest.mark.parametrize("path", markdown_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_changed_digit_is_noticed(path, tmp_path, monkeypatch, capsys):
    """In each table of the repository: the check fails, shows both lines, and leaves the file alone; the command mends it."""
    (tmp_path / "results").symlink_to(ROOT / "results")
    text = path.read_text()
    for match in BLOCK.finditer(text):
        first = re.compile(r"^\| [^|\n]*\|(?:[^|\n]*\|)*? +-?(\d)", re.MULTILINE).search(text, match.start("table")).start(1)
        wrong = text[:first] + str((int(text[first]) + 1) % 10) + text[first + 1 :]
        (tmp_path / "page.md").write_text(wrong)
        with pytest.raises(SystemExit, match=r"page\.md: tables are not what their files say; make results"):
            run(monkeypatch, "page.md", "--root", tmp_path, "--check")
        assert capsys.readouterr().out.count("\n+|") == 1
        assert (tmp_path / "page.md").read_text() == wrong
        run(monkeypatch, "page.md", "--root", tmp_path)
        assert (tmp_path / "page.md").read_text() == text


def labelled(rows, threshold=""):
    lines = [f"E-v0,ddpg_ext,{seed},{value},1.0,100,{threshold},5,1000,9.5,{label}" for label, seed, value in rows]
    return "\n".join([HEADER + ",label", *lines]) + "\n"


FEW = labelled([("a", 0, 1.0), ("a", 1, 2.25), ("b", 0, -3.0)])
MANY = labelled([("b", seed, value) for seed, value in enumerate((95.0, 94.0, 93.0, 0.0, 93.0))], threshold=90)


def test_returns(make):
    """Labels of several files beside each other; each seed, or the interval: 75 -+ 2.776 * 41.9 / sqrt(5)."""
    table = make('returns few.csv many.csv titles="Few;Many" digits=1 seeds=yes', {"few.csv": FEW, "many.csv": MANY})
    assert cells(table)[0] == ["label", "Few: mean (each seed)", "seeds", "Many: mean (95% interval)", "seeds"]
    assert cells(table)[2:] == [
        ["`a`", "1.6 (1.0, 2.2)", "2", "", ""],
        ["`b`", "-3.0", "1", "75.0 (22.9 to 127.1)", "5"],
    ]


def test_solved(make):
    """Shares that reach the threshold, and their mean; the environment is the title."""
    table = make("returns many.csv solved=yes", {"many.csv": MANY})
    assert cells(table)[0] == ["label", "E-v0: mean (95% interval)", "solved", "mean of the solved"]
    assert cells(table)[2][2:] == ["4 of 5", "94"]


def test_rows_and_columns_by_hand(make):
    """Rows in the order asked for; what was written by hand stays with its row, and is empty for a new one."""
    old = "| label | old | what it is |\n|---|---|---|\n| `b` | 5 | the second |\n"
    table = make('returns few.csv rows=b,a keep="what it is"', {"few.csv": FEW}, old)
    assert [(row[0], row[2]) for row in cells(table) if "`" in row[0]] == [("`b`", "the second"), ("`a`", "")]
    assert cells(table)[0][2] == "what it is"


def test_summary(make):
    """A row for each file, with the range of steps, seeds and returns."""
    rows = [
        f"E-v0,ddpg_ext,{seed},{value},1,100,90.0,5,{steps},9" for seed, value, steps in ((0, 91.0, 25728), (1, 89.0, 28900))
    ]
    table = make("summary one.csv", {"one.csv": "\n".join([HEADER, *rows]) + "\n"})
    assert cells(table)[2] == ["E-v0", "26k to 29k", "0, 1", "90.0", "91.0, 89.0", "89.0, 91.0", "1 of 2"]


def test_curves(make):
    """The table that plot curves prints."""
    table = make("curves c.csv success=yes", {"c.csv": "label,seed,steps,success_rate\nher,0,10,0.25\nher,0,20,0.75\n"})
    assert cells(table)[2] == ["her", "1", "20", "0.75", "0.75", "0.50"]


def bench_file(measure, values):
    runs = [dict(library=name, cell="64x64/32", threads=1, repeat=0, measures=measures) for name, measures in values.items()]
    return json.dumps(dict(runs=runs, settings={"env": "E"}, machine={"processor": "P"}))


def test_bench(make):
    """Medians, and how many times as fast ours is."""
    values = {"ours": {"update": 2.0}, "sb3": {"update": 6.0}}
    table = make("bench b.json measure=update", {"b.json": bench_file("update", values)})
    assert cells(table)[0] == ["network / batch", "ours, ms", "SB3, ms", "ours against SB3"]
    assert cells(table)[2] == ["64-64 / 32", "2.00", "6.00", "3.00"]


def test_buffers(make):
    """Ours with each buffer against the plain one and against SB3's with the same."""
    values = {
        "ours": {"learn": 200.0, "sample": 30.0},
        "sb3": {"learn": 100.0, "sample": 90.0},
        "ours+lap": {"learn": 150.0, "sample": 60.0},
    }
    table = make("buffers b.json", {"b.json": bench_file("learn", values)})
    assert cells(table)[2:] == [
        ["uniform, one step", "200", "1.00", "100", "2.0", "30.0", "90.0"], ["`lap`", "150", "0.75", "", "", "60.0", ""]
    ]  # fmt: skip


def test_costs(make):
    """Each beside plain ours, in whatever cell; without that there is nothing to compare with."""
    values = {"ours": {"update": 2.0}, "ours+layer": {"update": 3.0}, "sb3": {"update": 6.0}}
    table = make("costs b.json", {"b.json": bench_file("update", values)})
    assert [row[:1] + row[2:] for row in cells(table)[2:]] == [
        ["ours", "2.00", "2.00 to 2.00", "1.00"],
        ["`layer`", "3.00", "3.00 to 3.00", "1.50"],
        ["SB3", "6.00", "6.00 to 6.00", "3.00"],
    ]  # fmt: skip
    with pytest.raises(SystemExit, match="must have runs of ours without an option"):
        make("costs b.json", {"b.json": bench_file("update", {"ours+layer": {"update": 3.0}})})


def test_study(make, tmp_path):
    """One table for an environment and a factor, all of a study's tables without them."""
    write_study(tmp_path / "demo")
    one = make("study demo env=B-v0 factor=critic_norm")
    assert [row[0] for row in cells(one)] == ["critic_norm", "-----------", "none (base)", "layer"]
    every = make("study demo")
    assert one in every
    assert every.count("**") == 2 * 6
    assert "**All environments, noise**" in every


def test_training_episodes_of_a_study(make, tmp_path):
    """Where a tutorial reports training returns: their means over the seeds, nothing where a run had too few episodes."""
    path = write_study(tmp_path / "demo") / "runs.csv"
    header, *rows = [line.split(",") for line in path.read_text().splitlines()]
    last, best = header.index("train_last10"), header.index("train_best100")
    for i, row in enumerate(rows):
        row[last], row[best] = str(100 * (i + 1)), ""
    path.write_text("\n".join(map(",".join, [header, *rows])) + "\n")
    table = cells(make("study demo env=A-v0 factor=critic_norm columns=train_last10,train_best100"))
    assert table[0][4:] == ["last 10 training episodes", "best 100 training episodes"]
    assert table[2][4:] == ["200.0", ""]  # of 100, 200, 300


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("", "the first word must be one of returns, summary"),
        ("bars few.csv", "the first word must be one of returns, summary"),
        ("returns few.csv digit=1", "returns knows no option digit"),
        ("returns few.csv digits=x", "digits=x must be a whole number"),
        ("returns few.csv titles=a;b", "titles must be as many as files"),
        ("returns few.csv rows=a,c", "rows=c: the labels of the files are a, b"),
        ("returns", "titles must be as many as files"),
        ("returns none.csv", r"none\.csv cannot be read"),
        ("curves few.csv few.csv", "it must name one file, not 2"),
        ("bench few.csv", r"few\.csv must be a file of bench --json"),
        ("bench few.csv measure=speed", "measure=speed must be one of learn"),
        ("study demo env=A-v0 factor=noise columns=steps", "columns=steps must be some of last_evaluations,area,train_last10"),
        ("study demo env=C-v0", "env must be one of A-v0, B-v0 and factor one of noise, critic_norm"),
    ],
)
def test_wrong_requests(request_, message, make, tmp_path):
    """The comment is named, and what is allowed."""
    write_study(tmp_path / "demo")
    with pytest.raises(SystemExit, match=message):
        make(request_, {"few.csv": FEW})


@pytest.mark.parametrize("text", ["<!-- table: returns a.csv -->\n| a |\n", "<!-- table: returns\na.csv -->\n<!-- end -->\n"])
def test_comments_without_an_end(text, tmp_path, monkeypatch):
    """Are refused, as a table below one would never be checked."""
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(SystemExit, match=r"page\.md: each comment .* must stand in one line, with <!-- end --> below"):
        run(monkeypatch, "page.md", "--root", tmp_path)


def test_help_names_every_kind(monkeypatch, capsys):
    """With its options."""
    with pytest.raises(SystemExit):
        run(monkeypatch, "--help")
    out = capsys.readouterr().out
    assert all(f"  {kind}: " in out for kind in KINDS)
