import json

from tunesmith.reporting.contents import Report
from tunesmith.reporting.report import write_report
from tunesmith.rundir import RunDir, read_record


def test_both_files_are_written_and_the_record_reads_back(run: RunDir) -> None:
    report = write_report(run)
    assert read_record(run.report_json, Report) == report
    assert json.loads(run.report_json.read_text(encoding="utf-8"))["schema"] == 1
    assert run.report_html.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_second_time_writes_the_same_bytes_and_leaves_nothing_behind(run: RunDir) -> None:
    write_report(run)
    before = {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}
    write_report(run)
    assert {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()} == before
