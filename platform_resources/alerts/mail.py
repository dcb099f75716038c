"""Alert mails: plain text to the owners of a product, by SMTP; without a configured server they are written to the log instead."""

from __future__ import annotations

import hashlib
import logging
import smtplib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

from platform_resources.alerts.incidents import Incident
from platform_resources.config import Settings

_logger = logging.getLogger(__name__)
_TIMEOUT = 10.0
ONCE = "There is one mail per incident: the next comes when this has recovered and fails again."


class UndeliveredError(Exception):
    """A mail was not taken by the server; try again later."""


@dataclass(frozen=True)
class Alert:
    """One mail to be: what failed (at least one incident), to whom, and the contract of each product by its key."""

    incidents: Sequence[Incident]
    recipients: tuple[str, ...]
    contracts: Mapping[str, str]

    @property
    def subject(self) -> str:
        """What stands in the list of mails."""
        products = sorted({incident.product for incident in self.incidents})
        what = sorted({_headline(incident) for incident in self.incidents})
        more = f" and {len(products) - 1} more" if len(products) > 1 else ""
        return f"[data platform] {products[0]}{more}: {', '.join(what)}"

    def body(self, settings: Settings) -> str:
        """What happened, what to do about it, since when, where to look."""
        parts = [self._paragraph(incident, settings) for incident in self.incidents]
        return "\n\n\n".join(parts) + f"\n\n{ONCE}\n" + (f"\n{run}\n" if (run := self._run(settings)) else "")

    def _paragraph(self, incident: Incident, settings: Settings) -> str:
        rows = [
            ("Product", incident.product),
            ("Since", f"{datetime.fromtimestamp(incident.since, UTC):%Y-%m-%d %H:%M:%S} UTC"),
            ("Contract", self.contracts.get(incident.product)),
            ("Page", f"{base}/assets/{incident.product}" if (base := _base(settings)) else None),
            ("Run", incident.run_id),
        ]
        facts = "\n".join(f"{name + ':':<10}{value}" for name, value in rows if value)
        return "\n\n".join(part for part in (incident.what, incident.more, facts) if part)

    def _run(self, settings: Settings) -> str | None:
        """Where the UI shows the run, which all incidents of one mail share."""
        runs = [incident.run_id for incident in self.incidents if incident.run_id]
        return f"{_base(settings)}/runs/{runs[0]}" if runs and _base(settings) else None


def _base(settings: Settings) -> str:
    return (settings.base_url or "").rstrip("/")


def send(alert: Alert, settings: Settings) -> None:
    """Hand one alert to the SMTP server, or to the log where no server is configured or nobody is to be told.

    The Message-ID is made of the incidents, so a mail that a crash lets go out again is the same mail to every mail program.

    Raises:
        UndeliveredError: the server is unreachable or refused it.
    """
    if settings.smtp_host is None or not alert.recipients:
        _logger.warning("%s\n%s", alert.subject, alert.body(settings))
        return
    message = EmailMessage()
    message["Subject"] = alert.subject
    message["From"] = settings.smtp_sender
    message["To"] = ", ".join(alert.recipients)
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{_digest(alert)}@shared-data-platform>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(alert.body(settings))
    try:
        with smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=_TIMEOUT) as server:
            server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        where = f"{settings.smtp_host}:{settings.smtp_port}"
        raise UndeliveredError(f"The SMTP server {where} did not take the mail to {message['To']}: {error}.") from error


def _digest(alert: Alert) -> str:
    return hashlib.sha256("\n".join(sorted(incident.id for incident in alert.incidents)).encode()).hexdigest()[:32]


def _headline(incident: Incident) -> str:
    kind, _, name = incident.cause.partition(":")
    return {"run": "run failed", "freshness": "not fresh"}.get(kind) or f"check {name} failed"
