"""Tables that users bring, as spreadsheets and scripts write them."""

import csv
import json

import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from whoknows import WhoknowsError
from whoknows.data import tables

ROWS = [{"question": "Who, then?", "answer": "Ada"}, {"question": 'A "b"\nand c', "answer": "=1+1"}]


def written(path, text: str | bytes):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS)),
        ("a.jsonl", "\ufeff" + "\r\n\r\n".join(json.dumps(row) for row in ROWS)),
        ("a.csv", 'question,answer\n"Who, then?",Ada\n"A ""b""\nand c",=1+1\n'),
        ("a.CSV", '\ufeffquestion;answer\r\nWho, then?;Ada\r\n"A ""b""\nand c";=1+1\r\n'),
        ("a.tsv", 'question\tanswer\nWho, then?\tAda\n\n"A ""b""\nand c"\t=1+1\n'),
        ("a.csv", 'question,answer,\n"Who, then?",Ada,\n"A ""b""\nand c",=1+1,\n,,\n'),
        ("a.csv", 'question;answer\r\nWho, then?;Ada;;\r\n"A ""b""\nand c";=1+1\r\n ;;\r\n;;;;\r\n'),
        ("a.csv", '\ufeffsep=;\r\nquestion;answer\r\nWho, then?;Ada\r\n"A ""b""\nand c";=1+1\r\n'),
        ("a.csv", 'sep=\t\r\nquestion\tanswer\r\nWho, then?\tAda\r\n"A ""b""\nand c"\t=1+1\r\n'),
        ("a.tsv", 'question;answer\r\nWho, then?;Ada\r\n"A ""b""\nand c";=1+1\r\n'),
        ("a.csv", '"question"\t"answer"\r\n"Who, then?"\t"Ada"\r\n"A ""b""\nand c"\t"=1+1"\r\n'),
    ],
    ids=[
        "jsonl",
        "bom and crlf",
        "csv",
        "semicolons",
        "tsv",
        "empty column and row",
        "empty cells beyond the columns",
        "a line for Excel",
        "one with a tab",
        "a tsv that is none",
        "a tsv called csv",
    ],
)
def test_each_form_gives_the_same_rows(name, text, tmp_path):
    table = tables.read(written(tmp_path / name, text), needed=["question"])
    assert table.to_dict("records") == ROWS


HEADS = [
    ['"question\n(in full)"', "answer"],
    ["answer", '"question\r\n(in full, with, commas)"'],
    ["question", "answer", "remarks (source, page, year)"],
    ['"a, b"', '"c; d"', '"e\tf"'],
    ['"a, b, c; d; e\tf\tg"', "h"],
]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("end, sign", [(".csv", ";"), (".csv", "\t"), (".tsv", "\t"), (".tsv", ";")])
def test_what_parts_columns_is_seen_outside_of_quotes_and_in_two_rows(head, end, sign, tmp_path):
    text = "".join(sign.join(row) + "\r\n" for row in (head, ["x"] * len(head), ["y"] * len(head)))
    table = tables.read(written(tmp_path / f"a{end}", text))
    assert [*table] == [name.strip('"') for name in head] and table.iloc[1].tolist() == ["y"] * len(head)


def test_one_column_needs_nothing_to_part_it(tmp_path):
    path = written(tmp_path / "a.csv", 'question\n"Who, then?"\n"a;b"\n')
    assert tables.read(path)["question"].tolist() == ["Who, then?", "a;b"]


def test_parquet_keeps_lists_and_rows_have_numbers(tmp_path):
    pd.DataFrame({"question": ["a", "b"], "answers": [["x", "y"], None]}).to_parquet(tmp_path / "a.parquet")
    table = tables.read(tmp_path / "a.parquet")
    assert list(table.index) == [1, 2]
    assert tables.texts(table["answers"][1]) == ["x", "y"] and table["answers"][2] is None


def test_a_parquet_file_keeps_whole_numbers_and_what_was_an_index(tmp_path):
    frame = pd.DataFrame({"question": ["a", "b"], "id": pd.array([2**60 + 1, None], "Int64")}).set_index("question")
    frame.to_parquet(tmp_path / "a.parquet")
    assert tables.read(tmp_path / "a.parquet", needed=["question"]).to_dict("list") == {
        "id": [2**60 + 1, None],
        "question": ["a", "b"],
    }


def test_columns_that_mean_something_are_known_in_other_letters(tmp_path):
    path = written(tmp_path / "a.csv", "Question , ANSWER,Split,Note,id,ID\nWhy?,so,test,x,1,2\n")
    known = ["question", "answer", "split", "id", "choices"]
    table = tables.read(path, needed=["question"], known=known)
    row = {"question": "Why?", "answer": "so", "split": "test", "Note": "x", "id": "1", "ID": "2"}
    assert table.to_dict("records") == [row]
    renamed = tables.read(path, {"question": "ANSWER", "answer": "Question"}, ["question"], known)
    assert renamed.to_dict("records") == [row | {"question": "so", "answer": "Why?"}]
    other = tables.read(path, {"answer": "Question"}, known=known)
    assert other.to_dict("records")[0]["answer"] == "Why?" and "question" not in other
    path = written(tmp_path / "b.csv", "question,Answer,ANSWER\nWhy?,so,thus\n")
    with pytest.raises(WhoknowsError, match="b.csv: two columns are called 'Answer' and 'ANSWER'; rename one of them"):
        tables.read(path, known=known)
    assert [*tables.read(path)] == ["question", "Answer", "ANSWER"]


def test_a_cell_may_be_long(tmp_path):
    path = written(tmp_path / "a.csv", f"question\n{'x' * 200_000}\n")
    assert tables.read(path)["question"].str.len().tolist() == [200_000]


@pytest.mark.parametrize("text", ["=1", "'=1", "''@a", "'so'", "'-5", "-ed", "'-ed'", "\t=1", "1=1", "'"])
@pytest.mark.parametrize("end, sign", [(".csv", ","), (".tsv", "\t")])
def test_the_apostrophe_that_makes_a_cell_inert_is_taken_away_again(text, end, sign, tmp_path):
    with open(tmp_path / f"a{end}", "w", newline="") as file:
        csv.writer(file, delimiter=sign).writerows([[tables.inert("=q"), "b"], [tables.inert(text), "c"]])
    assert tables.read(tmp_path / f"a{end}").to_dict("records") == [{"=q": text, "b": "c"}]


def test_rows_are_numbered_by_the_lines_on_which_they_begin(tmp_path):
    table = tables.read(written(tmp_path / "a.csv", 'question,answer\n"two\nlines",a\n\nfour,b\n'))
    assert table["question"].to_dict() == {2: "two\nlines", 5: "four"}


def test_columns_take_our_names_and_one_that_has_ours_already_gives_way(tmp_path):
    path = written(tmp_path / "a.csv", "prompt,question,gold\nWhy?,7,so\n")
    table = tables.read(path, {"question": "prompt", "answers": "gold"}, ["question", "answers"])
    assert table.to_dict("records") == [{"question": "Why?", "answers": "so"}]


def test_two_columns_can_change_their_names(tmp_path):
    path = written(tmp_path / "a.csv", "answer,question\nWhy?,so\n")
    table = tables.read(path, {"question": "answer", "answer": "question"})
    assert table.to_dict("records") == [{"question": "Why?", "answer": "so"}]


STRUCTS = [
    {"q": {"en": "Why?"}, "a": {"deep": {"text": ["so", "thus"]}}, "a.b": "literal"},
    {"q": {"en": "Who?"}, "a": None, "a.b": "too"},
    {"q": {"en": None}, "a": {"deep": None}, "a.b": "three"},
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_dotted_path_leads_into_structs_and_a_column_of_that_name_wins(name, tmp_path):
    pd.DataFrame(STRUCTS).to_parquet(tmp_path / "a.parquet")
    written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, STRUCTS)))
    columns = {"question": "q.en", "answers": "a.deep.text", "id": "a.b"}
    table = tables.read(tmp_path / name, columns, ["question"])
    assert table["question"].tolist() == ["Why?", "Who?", None] and table["id"].tolist() == ["literal", "too", "three"]
    assert [tables.texts(cell) for cell in table["answers"]] == [["so", "thus"], [None], [None]]


def test_a_struct_gives_way_to_its_part_of_the_same_name_of_ours(tmp_path):
    path = written(tmp_path / "a.jsonl", '{"question": "Why?", "answers": {"text": ["so"]}}\n')
    table = tables.read(path, {"answers": "answers.text"}, ["question"])
    assert table.to_dict("records") == [{"question": "Why?", "answers": ["so"]}]


@pytest.mark.parametrize("theirs", ["answers.txt", "answers.text.0", "answers.", ".text", "question.text"])
def test_a_path_that_leads_nowhere_names_what_there_is(theirs, tmp_path):
    rows = [{"question": "Why?", "answers": {"text": ["so"], "more": {"at\x1b[2J": 1}}}] * 2
    path = written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    sentence = (
        f"there is no column {theirs!r}; it has question, answers.text, answers.more.at?[2J. Rename one, or write"
    )
    with pytest.raises(WhoknowsError) as error:
        tables.read(path, {"answers": theirs})
    assert str(error.value).startswith(f"{path}: {sentence} columns: {{answers: ")


@pytest.mark.parametrize(
    "value, items",
    [
        (["a", "b|c"], ["a", "b|c"]),
        ("a | b", ["a", "b"]),
        ('["a", "b|c"]', ["a", "b|c"]),
        (7, [7]),
        ({"text": ["a"]}, [{"text": ["a"]}]),
        (None, [None]),
    ],
)
def test_lists_in_cells(value, items):
    assert tables.texts(value) == items


def test_a_list_in_a_cell_that_is_none_is_refused():
    with pytest.raises(ValueError, match="'\\[a]' is no list; write"):
        tables.texts("[a]")


@pytest.mark.parametrize(
    "name, text, sentence",
    [
        ("a.txt", "", "end with .jsonl, .csv, .tsv or .parquet"),
        ("a.xlsx", "", "this is a workbook; save it as CSV (UTF-8), and name that file."),
        ("a.ODS", "", "this is a workbook; save it as CSV (UTF-8), and name that file."),
        ("a.csv", "", "there is no row"),
        ("a.csv", "question,answer\n", "there is no row"),
        ("a.jsonl", "\n", "there is no row"),
        ("a.csv", "question\na\n\xff".encode("latin-1"), "line 3: this is not UTF-8"),
        ("a.csv", "question\na\n".encode("utf-16"), "line 1: this is not UTF-8"),
        ("a.tsv", "question\ta\n".encode("utf-16-le"), "line 1: this is not UTF-8"),
        ("a.csv", "question\na\0b\n", "line 2: this is not UTF-8"),
        ("a.jsonl", '{"question": "a"}\n[1]\n', "line 2: this is no JSON object"),
        ("a.jsonl", '{"question": "a"}\n' + "[" * 100_000, "line 2: this is no JSON object"),
        ("a.csv", "question,question\na,b\n", "a.csv: two columns are called 'question'; rename one"),
        ("a.csv", "question,answer\na,b\nwell, no,c\n", "line 3: this row has 3 cells, but there are 2 columns"),
        (
            "a.csv",
            "question,answer,note\na,b,c\nd,e\n",
            "line 3: this row has 2 cells, but there are 3 columns; fill it up",
        ),
        ("a.csv", 'question,answer\n"a,b\n', "this is no good CSV"),
        (
            "a.jsonl",
            '{"Q": 1}\n',
            "no column 'question'; it has Q. Rename one, or write columns: {question: NAME} in the",
        ),
        ("a.csv", "questions,b\na,b\n", "Put the names there, rename one, or write columns: {question: questions} in"),
        (
            "a.csv",
            "<p>question",
            "there is no column 'question'; its first line, which has to name the columns, has <p>q",
        ),
        ("a.parquet", "no", "a.parquet"),
    ],
)
def test_a_bad_file_is_named_with_its_line_and_the_fix(name, text, sentence, tmp_path):
    with pytest.raises(WhoknowsError) as error:
        tables.read(written(tmp_path / name, text), needed=["question"])
    assert str(tmp_path / name) in str(error.value) and sentence in str(error.value)


@pytest.mark.parametrize("end, sign", [(".csv", ","), (".csv", ";"), (".tsv", "\t")])
@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize(
    "above, shown",
    [
        ([["My study"]], "My study"),
        ([["", "My study"], [], ["Wikipedia", "2024"]], "My study"),
        ([["Source:", "Wikipedia"], ["Answers:"]], "Source:, Wikipedia"),
        ([["A", "A"]], "A, A"),
        ([["Why " * 99]], ("Why " * 15) + "."),
    ],
)
def test_what_stands_above_the_names_of_the_columns_is_shown(above, shown, is_padded, end, sign, tmp_path):
    rows = [*above, ["id", "question", "answer"], ["1", "Why?", "so"]]
    lines = (sign.join(row + [""] * (3 - len(row)) * is_padded) for row in rows)
    path = written(tmp_path / f"a{end}", "\r\n".join(lines))
    with pytest.raises(WhoknowsError) as error:
        tables.read(path, needed=["question"], known=["question", "answer"])
    sentence = f"there is no column 'question'; its first line, which has to name the columns, has {shown}"
    assert str(error.value).startswith(f"{path}: {sentence}") and ". Put the names there, rename" in str(error.value)


def test_two_columns_of_one_name_in_parquet(tmp_path):
    columns = [pyarrow.array([text]) for text in "abc"]
    parquet.write_table(pyarrow.table(columns, names=["question", "note", "note"]), tmp_path / "a.parquet")
    with pytest.raises(WhoknowsError, match="a.parquet: two columns are called 'note'; rename one of them"):
        tables.read(tmp_path / "a.parquet")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WhoknowsError, match="nothing.csv: this file cannot be read"):
        tables.read(tmp_path / "nothing.csv")
