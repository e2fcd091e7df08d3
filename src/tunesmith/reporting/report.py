"""From a run folder to report.json and report.html."""

from tunesmith.reporting.contents import Report
from tunesmith.reporting.gather import gather
from tunesmith.reporting.html import write_html
from tunesmith.rundir import RunDir, write_record


def write_report(run: RunDir) -> Report:
    """Gather what ``run`` holds and write report.json and report.html beside it; running it again changes nothing.

    Raises:
        UserError: there is no run in this folder, or its recipe, its record or its examples cannot be read.
    """
    report = gather(run)
    write_record(run.report_json, report)
    write_html(report, run.report_html)
    return report
