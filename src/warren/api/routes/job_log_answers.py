"""The log of a job as clients ask for it: a list, plain text, or live on a WebSocket."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import UUID

from litestar import Request, WebSocket
from litestar import Response as Answer

from warren.api.convert import jobs as convert
from warren.api.params import Query
from warren.api.streams import send_values
from warren.errors import Invalid, Violation
from warren.sdk.types.jobs import ProvisionerJobLog
from warren.services.jobs import Jobs

LogAnswer = list[ProvisionerJobLog] | Answer[str]


async def listed(request: Request[Any, Any, Any], jobs: Jobs, job_id: UUID) -> LogAnswer:
    """Answer with what a job has written so far."""
    query = Query(request.query_params)
    after, form = query.integer("after"), query.text("format")
    query.finish()
    _check_format(form, follow=query.has("follow"))
    lines = await jobs.logs(job_id, after)
    if form == "text":
        text = "".join(line.text() + "\n" for line in lines)
        return Answer(text, media_type="text/plain")
    return [convert.log_line(line) for line in lines]


async def followed(socket: WebSocket[Any, Any, Any], jobs: Jobs, job_id: UUID) -> None:
    """Send what a job has written and what it writes, one line a message; ends with the job."""
    query = Query(socket.query_params)
    after = query.integer("after")
    query.finish()
    _check_format(query.text("format"), follow=True)
    await send_values(socket, _lines(jobs, job_id, after))


def _check_format(form: str, *, follow: bool) -> None:
    if form not in ("", "json", "text"):
        raise Invalid("Invalid format.", violations=[Violation("format", f'"{form}" is not one of json, text')])
    if form == "text" and follow:
        raise Invalid("Text format is not supported with follow mode.")


async def _lines(jobs: Jobs, job_id: UUID, after: int) -> AsyncGenerator[ProvisionerJobLog]:
    async with aclosing(jobs.follow_logs(job_id, after)) as lines:
        async for line in lines:
            yield convert.log_line(line)
