"""`whoknows score` reads and writes each form, goes on after a kill, and what it writes is inert in a spreadsheet."""

import csv
import io
import json
import os
import sys
from io import TextIOWrapper

import pandas as pd
import pyarrow
import pytest
import torch
from pyarrow import parquet

from whoknows import WhoknowsError, __main__
from whoknows.data import tables
from whoknows.use import commands, outputs, predict

ROWS = [{"id": str(i), "question": f"Why {i}?", "answer": "so " * i} for i in range(10)]


class Fake:
    """An estimator without a model, whose confidence depends on the rows that are scored together, too."""

    card = {"method": "probe", "reader": "r", "trained_on": "one", "tasks": ["made_up"]}

    def __init__(self, identity="fake", ends=None):
        self.identity, self.ends, self.seen = identity, ends, []

    def example(self, question, answer):
        if question == "long":
            raise predict.Mistake("question and answer make 9 tokens; shorten them")
        return question, answer

    def of_examples(self, examples, done=lambda count: None):
        if self.ends is not None and len(self.seen) == self.ends:
            raise KeyboardInterrupt
        self.seen.append([question for question, _ in examples])
        done(len(examples))
        return torch.tensor([len(q) - len(a) / 7 + len(examples) / 1000 for q, a in examples])


@pytest.fixture
def score(monkeypatch, capsys):
    """Runs the command with an estimator; gives its status, what it writes and what it says."""

    def run(estimator, *arguments, text=b""):
        reading, writing = os.pipe()
        os.write(writing, text)
        os.close(writing)
        with TextIOWrapper(open(reading, "rb")) as pipe:
            monkeypatch.setattr(sys, "stdin", pipe)
            monkeypatch.setattr(predict, "load", lambda *_: estimator)
            status = __main__.main(["score", "--estimator", "x", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def as_jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def written(path, rows=ROWS):
    """A file of rows, in the form that its name says."""
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path, index=False)
    elif path.suffix == ".jsonl":
        path.write_text(as_jsonl(rows))
    else:
        pd.DataFrame(rows).to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def read(path):
    if path.suffix == ".parquet":
        return pd.read_parquet(path).to_dict("records")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    frame = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype={"id": str}, keep_default_na=False)
    return frame.to_dict("records")


@pytest.mark.parametrize("end", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_each_form_is_written_as_it_was_read_and_says_the_same(end, score, tmp_path):
    source, output = written(tmp_path / f"in{end}"), tmp_path / "new" / f"out{end}"
    status, text, message = score(Fake(), "--input", source, "--output", output, "--lines", 4)
    assert (status, text) == (0, "") and message == "probe: reader r, trained on answers of one to made_up\n"
    rows = read(output)
    assert [{name: row[name] for name in ROWS[0]} for row in rows] == ROWS
    assert [list(row) for row in rows] == [["id", "question", "answer", "p_correct", "logit"]] * 10
    sizes = [4] * 8 + [2] * 2
    logits = torch.tensor([len(r["question"]) - len(r["answer"]) / 7 + n / 1000 for r, n in zip(ROWS, sizes)])
    assert [row["logit"] for row in rows] == pytest.approx(logits.tolist(), abs=1e-6)
    assert [row["p_correct"] for row in rows] == pytest.approx(logits.sigmoid().tolist(), abs=1e-6)
    assert os.listdir(output.parent) == [output.name]


@pytest.mark.parametrize("end", [".jsonl", ".csv", ".tsv"])
def test_without_an_output_the_same_goes_to_stdout(end, score, tmp_path):
    source, output = written(tmp_path / f"in{end}"), tmp_path / f"out{end}"
    assert score(Fake(), "--input", source, "--output", output)[0] == 0
    assert score(Fake(), "--input", source)[:2] == (0, output.read_text())


@pytest.mark.parametrize("end", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("killed", [0, 1, 2])
def test_what_a_killed_run_has_scored_is_not_scored_again_and_the_result_is_the_same(end, killed, score, tmp_path):
    source, whole, output = written(tmp_path / f"in{end}"), tmp_path / f"whole{end}", tmp_path / f"out{end}"
    arguments = ["--input", source, "--lines", 4, "--output"]
    assert score(Fake(), *arguments, whole)[0] == 0
    assert score(Fake(ends=killed), *arguments, output)[0] == 130
    assert not output.exists()
    with open(tmp_path / f"out{end}.part", "ab") as part:
        part.write(b'["fa')  # a kill in the middle of a line
    assert score(again := Fake(), *arguments, output)[0] == 0
    assert sum(again.seen, []) == [row["question"] for row in ROWS[4 * killed :]]
    assert output.read_bytes() == whole.read_bytes() and {*os.listdir(tmp_path)} == {
        source.name,
        whole.name,
        output.name,
    }


@pytest.mark.parametrize(
    "change, again",
    [
        ({}, 2),
        ({"identity": "other"}, 10),
        ({"lines": 5}, 10),
        ({"columns": ["question=id", "answer=answer"]}, 10),
        ({"at": 6}, 6),
        ({"count": 7}, 3),
    ],
)
def test_of_another_estimator_or_of_other_rows_nothing_is_kept(change, again, score, tmp_path):
    source, output = written(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    assert score(Fake(ends=2), "--input", source, "--lines", 4, "--output", output)[0] == 130
    rows = [row | {"id": "new"} if i == change.get("at") else row for i, row in enumerate(ROWS)]
    written(source, rows[: change.get("count", 10)])
    names = ["--columns", *change["columns"]] if "columns" in change else []
    estimator, size = Fake(change.get("identity", "fake")), change.get("lines", 4)
    assert score(estimator, "--input", source, "--lines", size, *names, "--output", output)[0] == 0
    assert sum(map(len, estimator.seen)) == again
    fresh = tmp_path / "fresh.jsonl"
    assert score(Fake(), "--input", source, "--lines", size, *names, "--output", fresh)[0] == 0
    assert output.read_bytes() == fresh.read_bytes()


def test_a_column_that_is_equal_but_not_the_same_is_not_taken_from_a_killed_run(score, tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    for seen in (1, True, 1.0):
        written(source, [row | {"seen": seen} for row in ROWS])
        assert score(Fake(ends=1), "--input", source, "--lines", 4, "--output", output)[0] == 130
    assert score(Fake(), "--input", source, "--lines", 4, "--output", output)[0] == 0
    assert [type(row["seen"]) for row in read(output)] == [float] * 10


def test_a_pipe_that_is_given_again_goes_on_too(score, tmp_path):
    arguments, text = ["--lines", 3, "--output", tmp_path / "out.jsonl"], as_jsonl(ROWS).encode()
    assert score(Fake(ends=2), *arguments, text=text)[0] == 130
    assert score(again := Fake(), *arguments, text=text)[0] == 0
    assert [len(chunk) for chunk in again.seen] == [3, 1]
    assert [row["id"] for row in read(tmp_path / "out.jsonl")] == [row["id"] for row in ROWS]


def test_a_bad_row_names_file_and_line_and_what_came_before_is_kept(score, tmp_path):
    bad = ROWS[:5] + [{"id": "5", "question": "long", "answer": "so"}] + ROWS[6:]
    source, output = written(tmp_path / "in.csv", bad), tmp_path / "out.csv"
    status, text, message = score(Fake(), "--input", source, "--lines", 4)
    sentence = f"{source}, line 7: question and answer make 9 tokens; shorten them."
    assert status == 2 and message.splitlines()[-1] == sentence
    assert [line.split(",")[0] for line in text.splitlines()] == ["id", "0", "1", "2", "3", "4"]
    status, _, message = score(Fake(), "--input", source, "--lines", 4, "--output", output)
    assert status == 2 and not output.exists()
    assert message.splitlines()[-1].startswith(f"{sentence} What was scored before is in {output}.part;")
    written(source)
    assert score(again := Fake(), "--input", source, "--lines", 4, "--output", output)[0] == 0
    assert [len(chunk) for chunk in again.seen] == [4, 2] and len(read(output)) == 10


def test_a_confidence_that_is_no_number_ends_with_the_rows_before_it(score, tmp_path):
    class Broken(Fake):
        def of_examples(self, examples, done=None):
            return torch.tensor([1.0, 2.0, torch.nan, 3.0])

    status, text, message = score(Broken(), "--input", written(tmp_path / "in.jsonl"), "--lines", 4)
    assert status == 2 and len(text.splitlines()) == 2
    assert "in.jsonl, line 3: the confidence is not a finite number" in message


def test_other_names_of_the_columns(score, tmp_path):
    rows = [{"prompt": row["question"], "reply": row["answer"], "question": 7} for row in ROWS]
    for end in (".csv", ".parquet", ".jsonl"):
        source, output = written(tmp_path / f"in{end}", rows), tmp_path / f"out{end}"
        names = ["--columns", "question=prompt", "answer=reply"]
        assert score(fake := Fake(), "--input", source, "--output", output, *names)[0] == 0
        assert fake.seen == [[row["question"] for row in ROWS]]
        assert list(read(output)[0]) == ["prompt", "reply", "question", "p_correct", "logit"]
    status, _, message = score(Fake(), "--input", tmp_path / "in.csv", "--columns", "answer=gold")
    assert status == 2 and message.startswith(
        f"{tmp_path / 'in.csv'}: there is no column 'gold'; its first line, which"
    )
    assert (
        "has prompt, reply, question. Put the names there, rename one, or name the one with the answers: --columns a"
        in message
    )
    with pytest.raises(SystemExit):
        score(Fake(), "--columns", "prompt=question")


def test_an_empty_cell_is_an_empty_answer_but_no_question(score, tmp_path):
    (tmp_path / "in.csv").write_text("question,answer,note\nWhy?,,\n")
    assert score(Fake(), "--input", tmp_path / "in.csv")[1].startswith(
        "question,answer,note,p_correct,logit\nWhy?,,,0.9"
    )
    (tmp_path / "in.csv").write_text("question,answer\nWhy?,so\n,so\n")
    status, text, message = score(Fake(), "--input", tmp_path / "in.csv")
    assert (status, text) == (2, "") and message == (
        f"{tmp_path / 'in.csv'}, line 3: `question` is missing or no text; "
        "write text into this cell, or remove the row.\n"
    )


@pytest.mark.parametrize("killed", [None, 0, 1])
def test_a_blank_row_stays_where_it_is_without_a_confidence(killed, score, tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("question,answer,\nWhy?,so,\n,,\n\nWho?,,\n , ,\n,,x\n")
    if killed is not None:
        assert score(Fake(ends=killed), "--input", source, "--output", output, "--lines", 1)[0] == 130
    assert score(fake := Fake(), "--input", source, "--output", output, "--lines", 1)[0] == 0
    lines = output.read_text().splitlines()
    assert [line[:4] for line in lines] == ["ques", "Why?", ",,,", ",,,", "Who?", ",,,", ",,,"]
    assert sum(fake.seen, []) == ["Why?", "Who?"][killed or 0 :]
    assert score(Fake(), "--input", source, "--lines", 1)[:2] == (0, output.read_text())
    source.write_text("question,answer\n,\n\n")
    status, text, message = score(Fake(), "--input", source)
    assert (status, text) == (
        2,
        "",
    ) and message == f"{source}: there is no row in this file; add one, or name another file.\n"


@pytest.mark.parametrize(
    "cell, shown",
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+cell", "'-2+cell"),
        ("-E5", "'-E5"),
        ("+1:E5", "'+1:E5"),
        ("+1/(e5)", "'+1/(e5)"),
        ("-1;2", "'-1;2"),
        ("-1\n=2", "'-1\n=2"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("＝1+1", "'＝1+1"),
        ("-1.5e-3", "-1.5e-3"),
        ("+7", "+7"),
        *[(amount, amount) for amount in ("-5.00%", "-12,50 €", "-€5", "-12:30", "-2026-01-02", "-1/2", "-(1'234.5)")],
        ("1=1", "1=1"),
        ("a\r=1", "a\r=1"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula_and_numbers_stay_numbers(cell, shown, score, tmp_path):
    with open(tmp_path / "in.csv", "w", newline="") as file:
        csv.writer(file).writerows([["question", "answer", "=head"], ["Why?", cell, "x"]])
    status, text, _ = score(Fake(), "--input", tmp_path / "in.csv")
    names, row = csv.reader(io.StringIO(text, newline=""))
    assert status == 0 and names == ["question", "answer", "'=head", "p_correct", "logit"]
    assert row[:3] == ["Why?", shown, "x"] and "\r" not in text.replace(f'"{shown}"', "")
    assert float(row[4]) == pytest.approx(4 - len(cell) / 7 + 1 / 1000, abs=1e-6)
    (tmp_path / "out.csv").write_text(text, newline="")
    (again,) = tables.read(tmp_path / "out.csv", needed=["=head"])["answer"]
    assert (again or "") == cell


def test_the_logit_of_a_wrong_answer_is_a_number_in_a_spreadsheet(score, tmp_path):
    (tmp_path / "in.csv").write_text(f"question,answer\nWhy?,{'so' * 50}\n")
    assert score(Fake(), "--input", tmp_path / "in.csv")[1].splitlines()[1].split(",")[3].startswith("-10.2")


def test_a_csv_file_keeps_its_delimiter_and_its_byte_order_mark(score, tmp_path):
    (tmp_path / "in.csv").write_bytes('\ufeffquestion;answer;"a\nnote, 2"\r\nWhy?;Zürich, so;\r\n'.encode())
    output = tmp_path / "out.csv"
    assert score(Fake(), "--input", tmp_path / "in.csv", "--output", output)[0] == 0
    *head, row = output.read_bytes().decode().splitlines()
    assert head == ['\ufeffquestion;answer;"a', 'note, 2";p_correct;logit'] and row.startswith("Why?;Zürich, so;;0.")


@pytest.mark.parametrize("end", [".jsonl", ".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("name", outputs.ADDED)
def test_a_confidence_that_is_there_already_is_not_lost(name, end, score, tmp_path):
    source, output = written(tmp_path / f"in{end}", [row | {name: 0.5} for row in ROWS]), tmp_path / f"out{end}"
    status, text, message = score(fake := Fake(), "--input", source, "--output", output)
    assert (status, text, fake.seen) == (2, "", []) and name in message and "rename or remove it." in message


def test_columns_of_parquet_keep_their_types(score, tmp_path):
    table = pyarrow.table(
        {
            "question": ["Why?"],
            "answer": ["so"],
            "many": pyarrow.array([[1, None]], pyarrow.list_(pyarrow.int16())),
            "part": [{"a": 1, "b": ["x"]}],
            "parts": [[{"a": 1, "b": None}, {"a": None, "b": ["y"]}]],
            "pairs": pyarrow.array([[("k", 1)]], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
            "raw": [b"\xff"],
            "when": pyarrow.array([0], pyarrow.timestamp("s")),
        }
    )
    parquet.write_table(table, tmp_path / "in.parquet")
    table = parquet.read_table(tmp_path / "in.parquet")
    assert score(Fake(), "--input", tmp_path / "in.parquet", "--output", tmp_path / "out.parquet")[0] == 0
    scored = parquet.read_table(tmp_path / "out.parquet")
    assert scored.drop_columns(["p_correct", "logit"]).equals(table)
    assert scored["logit"].to_pylist() == pytest.approx([4 - 2 / 7 + 1 / 1000])


def test_structs_of_json_lines_come_through(score, tmp_path):
    row = ROWS[1] | {"part": {"a": [{"b": None}]}, "parts": [{"a": 1}, {}]}
    source, output = written(tmp_path / "in.jsonl", [row]), tmp_path / "out.jsonl"
    assert score(Fake(), "--input", source, "--output", output)[0] == 0
    assert {name: value for name, value in read(output)[0].items() if name in row} == row


def test_the_line_with_which_excel_is_told_the_delimiter_is_no_row(score, tmp_path):
    (tmp_path / "in.csv").write_text("sep=;\r\nquestion;answer\r\nWhy?;so, so\r\n")
    status, text, _ = score(Fake(), "--input", tmp_path / "in.csv")
    head, row = text.splitlines()
    assert (status, head) == (0, "question;answer;p_correct;logit") and row.startswith("Why?;so, so;0.")


@pytest.mark.parametrize(
    "text, sentence",
    [
        (
            "Replies\nquestion\tanswer\n",
            ": there is no column 'question'; its first line, which has to name the columns, has",
        ),
        ("question\tanswer\tn\nWhy?\tso\t#N/A\nWhy?\t#NAME?\t\n", ", line 3: '#NAME?' is an error: the spreadsheet"),
    ],
)
def test_what_a_spreadsheet_has_left_in_a_table_is_refused(text, sentence, score, tmp_path):
    (tmp_path / "in.tsv").write_text(text)
    status, text, message = score(Fake(), "--input", tmp_path / "in.tsv")
    assert (status, text) == (2, "") and message.startswith(f"{tmp_path / 'in.tsv'}{sentence}")


@pytest.mark.parametrize("text", ["question\tanswer\n", "question\tanswer\n".encode("utf-16")])
def test_a_table_whose_name_does_not_say_so_is_told_how_to_be_called(text, score, tmp_path):
    (tmp_path / "in.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    status, _, message = score(Fake(), "--input", tmp_path / "in.txt")
    assert status == 2 and message.startswith(
        f"{tmp_path / 'in.txt'}, line 1: this is no JSON; write one object a line"
    )
    assert message.endswith("; a table is in a file whose name ends with .csv, .tsv or .parquet.\n")


def test_a_number_in_place_of_an_answer_is_refused_by_its_row(score, tmp_path):
    written(tmp_path / "in.jsonl", [{"question": "Why?", "answer": answer} for answer in ("so", 7)])
    sentence = "line 2: `answer` is missing or no text; give a question and an answer, as in {"
    status, text, message = score(Fake(), "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")
    assert (status, text) == (2, "") and message.startswith(f"{tmp_path / 'in.jsonl'}, {sentence}")
    assert os.listdir(tmp_path) == ["in.jsonl"]
    status, text, message = score(Fake(), text=(tmp_path / "in.jsonl").read_bytes())
    assert status == 2 and text.count("\n") == 1 and f"standard input, {sentence}" in message
    pd.DataFrame({"question": ["Why?"], "answer": [7]}).to_parquet(tmp_path / "in.parquet")
    status, _, message = score(Fake(), "--input", tmp_path / "in.parquet", "--output", tmp_path / "out.parquet")
    assert status == 2 and "in.parquet, row 1: `answer` is missing or no text" in message


def test_what_cannot_be_written_is_said_before_anything_is_scored(score, tmp_path):
    source, table = written(tmp_path / "in.jsonl"), written(tmp_path / "in.parquet")
    (tmp_path / "folder.jsonl").mkdir()
    book = tmp_path / "in.xlsx"
    book.write_bytes(b"PK")
    for arguments, sentence in (
        (["--input", source, "--output", tmp_path / "out.csv"], "out.csv: the input is jsonl, so name an output that"),
        (
            ["--input", book, "--output", tmp_path / "out.csv"],
            "in.xlsx: this is a workbook; save it as CSV (UTF-8), and",
        ),
        (
            ["--input", source, "--output", book],
            "in.xlsx: the input is jsonl, so name an output that ends with .jsonl.",
        ),
        (["--input", table], "in.parquet: Parquet needs a file to be written to; name one with --output."),
        (["--input", source, "--output", source / "out.jsonl"], "out.jsonl: this file cannot be written (Not a dir"),
        (["--input", source, "--output", tmp_path / "folder.jsonl"], "folder.jsonl: this file cannot be written (Is a"),
    ):
        status, text, message = score(fake := Fake(), *arguments)
        assert status == 2 and not text and not fake.seen and sentence in message.splitlines()[-1]
    assert {*os.listdir(tmp_path)} == {source.name, table.name, book.name, "folder.jsonl"}


def test_a_link_stays_and_a_device_is_refused(score, tmp_path):
    source, link = written(tmp_path / "in.jsonl"), tmp_path / "link.jsonl"
    link.symlink_to("there.jsonl")
    assert score(Fake(), "--input", source, "--output", link)[0] == 0
    assert link.is_symlink() and read(tmp_path / "there.jsonl")[0]["id"] == "0"
    assert {*os.listdir(tmp_path)} == {"in.jsonl", "link.jsonl", "there.jsonl"}
    os.mkfifo(tmp_path / "pipe")
    status, _, message = score(fake := Fake(), "--input", source, "--output", tmp_path / "pipe")
    assert status == 2 and not fake.seen and "pipe: this is no regular file; leave out --output" in message


def test_two_runs_do_not_write_one_file(score, tmp_path):
    part = outputs.Part(tmp_path / "out.jsonl", ["fake"])
    status, _, message = score(
        fake := Fake(), "--input", written(tmp_path / "in.jsonl"), "--output", tmp_path / "out.jsonl"
    )
    assert status == 2 and not fake.seen and "out.jsonl: another run is writing this file" in message
    part.close()
    assert score(Fake(), "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")[0] == 0


def test_a_full_disk_is_one_sentence_and_what_is_there_stays(tmp_path):
    def full(rows):
        yield "half a row"
        raise OSError(28, "No space left on device")

    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(WhoknowsError, match=r"out\.csv: this file cannot be written \(No space left"):
        outputs.write(tmp_path / "out.csv", full, [])
    assert (tmp_path / "out.csv").read_text() == "old" and os.listdir(tmp_path) == ["out.csv"]


def test_names_of_others_do_not_steer_the_terminal(score, tmp_path, monkeypatch):
    (tmp_path / "in.csv").write_text("\x1b[31mred,question\nso,Why?\n")
    _, _, message = score(Fake(), "--input", tmp_path / "in.csv")
    assert "has ?[31mred, question. Put" in message
    monkeypatch.setattr(Fake, "card", Fake.card | {"tasks": ["made\x1b[2Jup\n", "Zürich"]})
    _, _, message = score(Fake(), "--input", written(tmp_path / "in.jsonl"))
    assert message == "probe: reader r, trained on answers of one to made?[2Jup?, Zürich\n"


def test_half_a_character_comes_through(score, tmp_path):
    rows = [{"question": "Why?", "answer": "so", "x": "Zürich \ud83d"}]
    written(tmp_path / "in.jsonl", rows)
    for _ in range(2):
        assert score(Fake(), "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")[0] == 0
    assert read(tmp_path / "out.jsonl")[0]["x"] == rows[0]["x"]


def test_a_pipe_that_trickles_is_answered_at_once_and_one_that_pours_in_chunks():
    reading, writing = os.pipe()
    fake, text = Fake(), as_jsonl(ROWS).encode()
    results = predict.stream(fake, predict.lines(commands._arriving(reading), "in"), "in", 1024)
    for count in (1, 2):
        os.write(writing, as_jsonl(ROWS[:1]).encode())
        assert next(results)["id"] == "0" and len(fake.seen) == count
    os.write(writing, text[:-5])  # all but the end of the last line
    assert [next(results)["id"] for _ in range(9)] == list("012345678") and len(fake.seen) == 3
    os.write(writing, text[-5:-1])
    os.close(writing)
    assert [row["id"] for row in results] == ["9"]
    os.close(reading)


def test_the_bar_counts_rows_and_knows_how_many_there_are(score, tmp_path, monkeypatch):
    source = written(tmp_path / "in.jsonl")
    source.write_text(source.read_text().replace("\n", "\n\n"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, _, message = score(Fake(), "--input", source, "--output", tmp_path / "out.jsonl")
    assert "10/10" in message
