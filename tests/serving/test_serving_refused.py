import json
import os
import random
import re

import numpy as np
import pytest
import tensorflow as tf

from serving import server
from tests.serving_stand_in import (
    facts,
    opened,
    reference,
    refused,
    sequence,
    stepped,
)

BAD = {
    "not JSON": ("{", 422, "the body is not JSON"),
    "empty": ("", 422, "the body: Field required; send JSON"),
    "no object": ("[]", 422, "the body: Input should be a valid dictionary"),
    "no inputs": ("{}", 422, "inputs: Field required"),
    "a name too many": ('{"state": 1, "inputs": [[1, 2]]}', 422, "state: Extra inputs are not permitted"),
    "a long name": ('{"%s\\n": 1, "inputs": [[1, 2]]}' % ("x" * 9999), 422, "[...]"),
    "no UTF-8": (b'"\xff"', 400, "parsing the body"),
    "nested deeply": ("[" * 100_000, 400, "parsing the body"),
    "a number of 5000 digits": ('{"inputs": [[1, ' + "9" * 5000 + "]]}", 400, "parsing the body"),
    "NaN": ('{"inputs": [[1, 2], [NaN, 2]]}', 422, "inputs[1][0]: Input should be a finite number"),
    "infinite": ('{"inputs": [[1, -Infinity]]}', 422, "inputs[0][1]: Input should be a finite number"),
    "too large a power": ('{"inputs": [[1, 1e999]]}', 422, "inputs[0][1]: Input should be a finite number"),
    "too large for float32": ('{"inputs": [[1, 1e39]]}', 422, "inputs[0][1]: Input should be less than"),
    "text": ('{"inputs": [[1, "2"]]}', 422, "inputs[0][1]: Input should be a valid number"),
    "true": ('{"inputs": [[1, true]]}', 422, "inputs[0][1]: Input should be a valid number"),
    "null": ('{"inputs": [null]}', 422, "inputs[0]: Input should be a valid list"),
    "no steps": ('{"inputs": []}', 422, "inputs: List should have at least 1 item"),
    "too narrow": ('{"inputs": [[1, 2], [1]]}', 422, "inputs[1]: List should have at least 2 items"),
    "too wide": ('{"inputs": [[1, 2], [1, 2, 3]]}', 422, "inputs[1]: List should have at most 2 items"),
    "too many steps": ('{"inputs": [' + "[1, 2], " * 20 + "[1, 2]]}", 422, "inputs: List should have"),
    "too large a body": ('{"inputs": [[1, 2' + " " * 200_000 + "]]}", 413, "the body is over 104858 bytes"),
    "outputs overflow": ('{"inputs": [[3e38, 0], [3e38, 0]]}', 422, "not all finite"),
}


@pytest.mark.parametrize("of", ["steps", "predict"])
def test_what_cannot_work_is_refused_in_a_line_and_harms_nothing(serve, of):
    client, given = serve(max_steps=20, max_body_mib=0.1), sequence(random.Random(4), 2)
    stream, beside = opened(client), opened(client)
    for each in (stream, beside):
        stepped(client, each, given[:1])
    for body, status, words in BAD.values():
        if of == "predict" and isinstance(body, str):  # the same within a batch
            body = body.replace('"inputs": [', '"inputs": [[').replace("]}", "]]}")
            words = re.sub(r"inputs(?=\[\d|: List)", "inputs[0]", words)
        refused(client.post("/predict" if of == "predict" else stream, content=body,
                            headers={"Content-Type": "application/json"}), status, words)
    for each in (stream, beside):
        np.testing.assert_allclose(stepped(client, each, given[1:]), reference(given)[1:], atol=1e-5)


def test_what_else_cannot_be_predicted(serve):
    client = serve(max_steps=20)
    for inputs, status, words in [
            ([], 422, "inputs: List should have at least 1 item"),
            ([[[1, 2]], []], 422, "inputs[1]: List should have at least 1 item"),
            ([[[1, 2]], [1, 2]], 422, "inputs[1][0]: Input should be a valid list"),
            ([[[1, 2]] * 11, [[1, 2]]], 413, "2 sequences times 11 steps, the longest's, are over 20"),
            ([[[1, 2]] * 21], 422, "inputs[0]: List should have at most 20 items")]:
        refused(client.post("/predict", json={"inputs": inputs}), status, words)
    refused(client.post("/predict", data={"inputs": "1"}), 422, "send JSON, and Content-Type: application/j")
    refused(client.get("/predict"), 405, "Not Allowed")
    refused(client.get("/nothing"), 404, "Not Found")


def without(folder, tmp_path, **changes):
    """A copy of an export with other files; None leaves one out."""
    for at, _, names in os.walk(folder):
        inside = tmp_path / os.path.relpath(at, folder)
        inside.mkdir(exist_ok=True)
        for name in names:
            with open(os.path.join(at, name), "rb") as file:
                content = changes.get(name.split(".")[0], file.read())
            if content is not None:
                (inside / name).write_bytes(content)
    return str(tmp_path)


@pytest.mark.parametrize("changes, words", [
    ({"santm": None}, "santm.json: no such file; --model takes what"),
    ({"santm": b"{"}, "damaged (JSONDecodeError"),
    ({"santm": b"\xff"}, "damaged (UnicodeDecodeError"),
    ({"santm": b"[]"}, "damaged (TypeError"),
    ({"santm": b'{"format": 2}'}, "damaged (KeyError: 'vocabulary'"),
    ({"santm": json.dumps(facts(features="2")).encode()}, "a value of the wrong kind"),
    ({"santm": json.dumps(facts(features=3)).encode()}, "damaged"),
    ({"santm": b'{"format": 1}'}, "format 1; this server reads 2"),
    ({"saved_model": None}, "damaged, or no export of this project"),
    ({"saved_model": b"no protocol buffer"}, "damaged, or no export of this project"),
    ({"variables": None}, "damaged, or no export of this project"),
    ({"variables": b"short"}, "damaged, or no export of this project"),
], ids=str)
def test_what_is_no_export_is_refused(folder, tmp_path, capsys, changes, words):
    with pytest.raises(SystemExit) as ended:
        server.main([f"--model={without(folder, tmp_path, **changes)}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and words in said[0], said


def test_another_saved_model_is_refused(tmp_path, capsys):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    (tmp_path / "santm.json").write_text(json.dumps(facts()))
    with pytest.raises(SystemExit) as ended:
        server.main([f"--model={tmp_path}"])
    assert ended.value.code == 2 and "no export of this project (KeyError" in capsys.readouterr().err


def test_a_folder_that_tensorflow_takes_for_a_pattern_is_refused(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        server.main([f"--model={without(folder, tmp_path / '[ab]')}"])
    assert ended.value.code == 2 and "[ab]: TensorFlow reads" in capsys.readouterr().err


def test_flags_are_checked(capsys):
    for flag in ("--max_sessions=0", "--idle_seconds=nan", "--threads=x", "--max_body_mib=inf"):
        with pytest.raises(SystemExit) as ended:
            server.main(["--model=x", flag])
        assert ended.value.code == 2 and f"{flag.split('=')[0]}: invalid positive" in capsys.readouterr().err
