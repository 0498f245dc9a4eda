"""Provisioner jobs and daemons, for operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, get

from warren.api.convert import jobs as convert
from warren.api.params import Query, path_uuid
from warren.authz.policy import Actor
from warren.errors import NOT_JSON, Invalid, Violation
from warren.sdk.types import jobs as wire
from warren.services.jobs import Jobs
from warren.services.lookups import Lookups
from warren.storage.jobs import JobFilter

DEFAULT_LIMIT = 50
_ORGANIZATION = "/api/v2/organizations/{organization:str}"


@get(_ORGANIZATION + "/provisionerjobs")
async def list_jobs(
    request: Request[Any, Any, Any], organization: str, actor: Actor, jobs: Jobs, lookups: Lookups
) -> list[wire.ProvisionerJob]:
    """List the jobs of an organization, newest first."""
    query = Query(request.query_params)
    limit, initiator = query.natural("limit"), query.uuid("initiator")
    query.finish()
    wanted = JobFilter(
        await lookups.organization(actor, organization),
        ids=_ids(query.text("ids")),
        statuses=[status for status in query.text("status").split(",") if status],
        tags=_tags(query.text("tags")),
        initiator_id=initiator,
        limit=limit or DEFAULT_LIMIT,
    )
    found, queue = await jobs.list(actor, wanted)
    return [convert.listed_job(item, queue) for item in found]


@get(_ORGANIZATION + "/provisionerjobs/{job:str}")
async def read_job(organization: str, job: str, actor: Actor, jobs: Jobs, lookups: Lookups) -> wire.ProvisionerJob:
    """Read a job of an organization."""
    organization_id = await lookups.organization(actor, organization)
    return convert.listed_job(*await jobs.get(actor, organization_id, path_uuid(job)))


@get(_ORGANIZATION + "/provisionerdaemons")
async def list_daemons(
    request: Request[Any, Any, Any], organization: str, actor: Actor, jobs: Jobs, lookups: Lookups
) -> list[wire.ProvisionerDaemon]:
    """List the daemons of an organization."""
    query = Query(request.query_params)
    limit, offline = query.natural("limit"), query.flag("offline")
    query.finish()
    organization_id = await lookups.organization(actor, organization)
    found = await jobs.daemons(actor, organization_id, limit=limit or DEFAULT_LIMIT, offline=offline)
    return [convert.daemon(item) for item in found]


def _ids(text: str) -> list[UUID]:
    try:
        return [UUID(part) for part in text.split(",") if part]
    except ValueError as error:
        raise Invalid("Invalid query parameters.", violations=[Violation("ids", str(error))]) from error


def _tags(text: str) -> Mapping[str, str] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, str]) if text else None
    except NOT_JSON as error:
        raise Invalid("Invalid query parameters.", violations=[Violation("tags", str(error))]) from error


routes = [list_daemons, list_jobs, read_job]
