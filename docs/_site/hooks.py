"""Builds the site from the documents where they are, so that their links work on GitHub and in the site.

What belongs here: which files of the checkout become which page, and how their links are written in the site. A link
to a file that is no document, such as an example DAG, leads to a page that shows the file.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

CHECKOUT = Path(__file__).resolve().parents[2]
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "airflow_batch/sandbox/README.md": "sandbox.md",
}
"""Documents outside of ``docs/``, and their pages."""
SHOWN = {".py": "python", ".yaml": "yaml", ".json": "json", ".toml": "toml", ".sql": "sql"}
"""Files that a document may link to, and their languages."""
REFERENCE = {
    "operators": [
        *(
            f"airflow_batch.operators.campaigns.Batch{name}Operator"
            for name in ("SetCampaignLive", "UpdateCampaign", "CreateCampaign", "DeleteCampaign", "GetCampaignStats")
        ),
        "airflow_batch.operators.sync.BatchSyncCampaignsOperator",
        "airflow_batch.operators.approval.BatchCampaignApprovalOperator",
        "airflow_batch.operators.export.BatchExportCampaignsOperator",
    ],
    "sensors": [
        "airflow_batch.sensors.campaigns.BatchCampaignLiveSensor",
        "airflow_batch.sensors.campaigns.BatchCampaignStatsSensor",
    ],
    "notifications": ["airflow_batch.notifications.campaigns.SetCampaignLiveNotifier"],
    "hook": ["airflow_batch.hooks.batch.BatchHook"],
    "windows": ["airflow_batch.windows.CampaignWindow"],
    "calendars": [
        "airflow_batch.calendar_dag.campaign_calendar_dag",
        "airflow_batch.calendars.read_calendar",
        "airflow_batch.calendars.CampaignCalendar",
        "airflow_batch.calendars.CalendarCampaign",
        "airflow_batch.calendars.LiveWindows",
        "airflow_batch.timetables.calendars.CalendarTimetable",
    ],
    "results": [
        *(f"airflow_batch.results.{name}" for name in ("CampaignResult", "CampaignSummary", "ApprovedCampaign")),
    ],
    "exceptions": ["airflow_batch.exceptions"],
    "retries": ["airflow_batch.policies.retry.BatchRetryPolicy", "airflow_batch.policies.retry.retry_defaults"],
    "triggers": [
        "airflow_batch.triggers.campaigns.BatchCampaignTrigger",
        "airflow_batch.triggers.events.BatchCampaignEventTrigger",
    ],
}
"""Pages of the API reference, and the public names on each."""

ONLY_CLASSES = {"operators", "sensors", "notifications", "triggers"}
"""Pages without methods, which are for Airflow to call."""

_LINK = re.compile(r"(```.*?^ *```|`[^`\n]*`)|(\]\(|<img[^>]* src=\")([^)\s\"]+)", re.M | re.S)
_ORIGINS = {page: path for path, page in OUTSIDE.items()}


def on_files(files: Files, *, config: Any) -> Files:
    """Add the documents outside of ``docs/``, the pages of linked files, and the API reference."""
    pages = {
        file.src_uri: (CHECKOUT / "docs" / file.src_uri).read_text("utf-8") for file in files.documentation_pages()
    }
    for path, page in OUTSIDE.items():
        pages[page] = (CHECKOUT / path).read_text("utf-8")
        files.append(File.generated(config, page, content=pages[page]))
    for page, text in pages.items():
        for match in _LINK.finditer(text):
            path = _path(page, match[3])
            if path is not None and Path(path).suffix in SHOWN and (uri := f"source/{path}.md") not in files.src_uris:
                files.append(File.generated(config, uri, content=_show(path)))
    for name in ("iframe-worker.js", "site.css"):
        files.append(File.generated(config, f"assets/{name}", abs_src_path=str(CHECKOUT / "docs" / "_site" / name)))
    for name, names in REFERENCE.items():
        options = "\n    options: {members: false}" if name in ONLY_CLASSES else ""
        blocks = "\n\n".join(f"::: {public}{options}" for public in names)
        files.append(File.generated(config, f"reference/{name}.md", content=f"# {name.capitalize()}\n\n{blocks}\n"))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Write the links between files of the checkout as links between pages."""
    if page.file.src_uri.startswith(("reference/", "source/")):
        return markdown

    def rewritten(match: re.Match[str]) -> str:
        path = _path(page.file.src_uri, match[3])
        if path is None:
            return match[0]
        uri = _uri(path)
        if uri not in files.src_uris:
            raise PluginError(f"{page.file.src_uri}: the link to {match[3]} is no page of the site")
        anchor = match[3].partition("#")[1:]
        return f"{match[2]}{posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')}{''.join(anchor)}"

    return _LINK.sub(rewritten, markdown)


def _path(page: str, target: str | None) -> str | None:
    """Return the file of the checkout that a link of a page leads to, None for any other link."""
    name = (target or "").partition("#")[0]
    if not name or ":" in name:
        return None
    origin = _ORIGINS.get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), name))


def _uri(path: str) -> str:
    """Return the page, or the picture, of a file of the checkout."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if Path(path).suffix in SHOWN:
        return f"source/{path}.md"
    return path.removeprefix("docs/")


def _show(path: str) -> str:
    """Return a page that shows a file. The search leaves it out."""
    text = (CHECKOUT / path).read_text("utf-8")
    return f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n````{SHOWN[Path(path).suffix]}\n{text}````\n"
