"""Templates, versions and parameters as clients see them, and as clients send them."""

from __future__ import annotations

from collections.abc import Sequence

from warren.api.convert import jobs as jobs_out
from warren.domain import template as rules
from warren.domain.job import JobStatus
from warren.domain.parameter import Diagnostic, Evaluated, Parameter, Preset, Variable
from warren.domain.template import TemplateSettings
from warren.sdk.types import templates as wire
from warren.sdk.types.base import NIL_UUID, present
from warren.sdk.types.users import MinimalUser
from warren.services.template_versions import VersionView
from warren.services.templates import NewTemplate, TemplateChange, TemplateView

REDACTED = "*redacted*"


def template(view: TemplateView) -> wire.Template:
    """Convert a template."""
    found, settings = view.template, view.template.settings
    return wire.Template(
        id=found.id,
        created_at=found.created_at,
        updated_at=found.updated_at,
        organization_id=found.organization_id,
        organization_name=found.organization_name,
        organization_display_name=found.organization_display_name,
        organization_icon=found.organization_icon,
        name=settings.name,
        display_name=settings.display_name,
        provisioner=found.provisioner,
        active_version_id=found.active_version_id,
        active_user_count=view.stats.active_users,
        build_time_stats={
            name: wire.TransitionStats(P50=times.p50, P95=times.p95) for name, times in view.stats.build_times.items()
        },
        description=settings.description,
        deprecated=bool(settings.deprecation_message),
        deprecation_message=settings.deprecation_message,
        deleted=found.deleted,
        icon=settings.icon,
        default_ttl_ms=settings.default_ttl_ms,
        activity_bump_ms=settings.activity_bump_ms,
        time_til_autostop_notify_ms=settings.time_til_autostop_notify_ms,
        autostop_requirement=wire.AutostopRequirement(
            days_of_week=rules.names_from_days(settings.autostop_days_of_week), weeks=settings.autostop_weeks
        ),
        autostart_requirement=wire.AutostartRequirement(
            days_of_week=rules.names_from_days(settings.autostart_days_of_week)
        ),
        created_by_id=found.created_by,
        created_by_name=found.created_by_name,
        allow_user_autostart=settings.allow_user_autostart,
        allow_user_autostop=settings.allow_user_autostop,
        allow_user_cancel_workspace_jobs=settings.allow_user_cancel_workspace_jobs,
        failure_ttl_ms=settings.failure_ttl_ms,
        time_til_dormant_ms=settings.time_til_dormant_ms,
        time_til_dormant_autodelete_ms=settings.time_til_dormant_autodelete_ms,
        require_active_version=settings.require_active_version,
        max_port_share_level=settings.max_port_share_level,
        use_classic_parameter_flow=settings.use_classic_parameter_flow,
        cors_behavior=settings.cors_behavior,
        disable_module_cache=settings.disable_module_cache,
    )


_CREATE_NAMES = {
    "dormant_ttl_ms": "time_til_dormant_ms",
    "delete_ttl_ms": "time_til_dormant_autodelete_ms",
    "template_use_classic_parameter_flow": "use_classic_parameter_flow",
}
_CREATE_FIELDS = (
    "name", "display_name", "description", "icon", "default_ttl_ms", "activity_bump_ms",
    "time_til_autostop_notify_ms", "failure_ttl_ms", "dormant_ttl_ms", "delete_ttl_ms",
    "allow_user_cancel_workspace_jobs", "allow_user_autostart", "allow_user_autostop",
    "template_use_classic_parameter_flow", "require_active_version", "max_port_share_level", "cors_behavior",
)  # fmt: skip
_UPDATE_FIELDS = (
    "name", "display_name", "description", "icon", "default_ttl_ms", "activity_bump_ms",
    "time_til_autostop_notify_ms", "allow_user_autostart", "allow_user_autostop",
    "allow_user_cancel_workspace_jobs", "failure_ttl_ms", "time_til_dormant_ms", "time_til_dormant_autodelete_ms",
    "require_active_version", "deprecation_message", "max_port_share_level", "cors_behavior",
    "use_classic_parameter_flow", "disable_module_cache",
)  # fmt: skip


def new_template(body: wire.CreateTemplate) -> NewTemplate:
    """Read a request for a new template; what it leaves out has its default."""
    settings = {_CREATE_NAMES.get(name, name): value for name, value in _given(body, _CREATE_FIELDS).items()}
    settings |= _requirements(body.autostop_requirement, body.autostart_requirement)
    # The keys are fields of the settings by construction.
    return NewTemplate(
        present(body.template_version_id) or NIL_UUID,
        TemplateSettings(**settings),  # pyright: ignore[reportArgumentType]
        body.disable_everyone_group_access,
    )


def changes(body: wire.UpdateTemplate) -> TemplateChange:
    """Read what a request changes."""
    return TemplateChange(
        _given(body, _UPDATE_FIELDS) | _requirements(body.autostop_requirement, body.autostart_requirement),
        private=body.disable_everyone_group_access,
        touch_workspaces=body.update_workspace_last_used_at,
        restart_dormancy=body.update_workspace_dormant_at,
    )


def _given(body: object, names: Sequence[str]) -> dict[str, object]:
    values = {name: getattr(body, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _requirements(
    autostop: wire.AutostopRequirement | None, autostart: wire.AutostartRequirement | None
) -> dict[str, object]:
    found: dict[str, object] = {}
    if autostop is not None:
        days = rules.days_from_names("autostop_requirement.days_of_week", autostop.days_of_week)
        found |= {"autostop_days_of_week": days, "autostop_weeks": autostop.weeks or 1}
    if autostart is not None:
        days = rules.days_from_names("autostart_requirement.days_of_week", autostart.days_of_week)
        found |= {"autostart_days_of_week": days}
    return found


def version(view: VersionView) -> wire.TemplateVersion:
    """Convert a version."""
    found = view.version
    matched = jobs_out.matched(view.matched) if view.matched is not None else None
    pending = view.job.job.status is JobStatus.PENDING
    return wire.TemplateVersion(
        id=found.id,
        organization_id=found.organization_id,
        created_at=found.created_at,
        updated_at=found.updated_at,
        name=found.name,
        message=found.message,
        job=jobs_out.job(view.job, view.queue),
        readme=found.readme,
        created_by=MinimalUser(
            id=found.created_by,
            username=found.created_by_username,
            name=found.created_by_name,
            avatar_url=found.created_by_avatar_url,
        ),
        archived=found.archived,
        has_external_agent=found.has_external_agent,
        # A version of no template says so with the nil UUID.
        template_id=found.template_id or NIL_UUID,
        matched_provisioners=matched if pending else None,
    )


def parameter(found: Parameter) -> wire.TemplateVersionParameter:
    """Convert a parameter."""
    return wire.TemplateVersionParameter(
        name=found.name,
        description=found.description,
        description_plaintext=_plain(found.description),
        type=found.type,
        form_type=found.form_type,
        mutable=found.mutable,
        default_value=found.default_value,
        icon=found.icon,
        options=[
            wire.ParameterOption(name=item.name, description=item.description, value=item.value, icon=item.icon)
            for item in found.options
        ],
        required=found.required,
        ephemeral=found.ephemeral,
        display_name=found.display_name,
        validation_error=found.validation_error,
        validation_regex=found.validation_regex,
        validation_min=found.validation_min,
        validation_max=found.validation_max,
        validation_monotonic=found.validation_monotonic,
    )


def _plain(markdown: str) -> str:
    """Leave out the marks of simple Markdown: what terminals show."""
    lines = [line.lstrip("#").strip() if line.startswith("#") else line for line in markdown.splitlines()]
    text = "\n".join(lines)
    for mark in ("**", "__", "`"):
        text = text.replace(mark, "")
    return text


def variable(found: Variable) -> wire.TemplateVersionVariable:
    """Convert a variable; nobody sees the value of a sensitive one."""
    return wire.TemplateVersionVariable(
        name=found.name,
        description=found.description,
        type=found.type,
        value=REDACTED if found.sensitive else found.value,
        default_value=REDACTED if found.sensitive else found.default_value,
        required=found.required,
        sensitive=found.sensitive,
    )


def preset(found: Preset) -> wire.Preset:
    """Convert a preset."""
    return wire.Preset(
        ID=found.id,
        Name=found.name,
        Parameters=[wire.PresetParameter(Name=name, Value=value) for name, value in found.parameters.items()],
        Default=found.is_default,
        DesiredPrebuildInstances=found.desired_prebuilds,
        Description=found.description,
        Icon=found.icon,
    )


def evaluation(number: int, found: Sequence[Evaluated]) -> wire.DynamicParametersResponse:
    """Convert what parameters are for some inputs."""
    return wire.DynamicParametersResponse(id=number, diagnostics=[], parameters=[_evaluated(item) for item in found])


def _evaluated(found: Evaluated) -> wire.PreviewParameter:
    known = found.parameter
    return wire.PreviewParameter(
        name=known.name,
        display_name=known.display_name,
        description=known.description,
        type=known.type,
        form_type=known.form_type,
        styling=wire.PreviewStyling(),
        mutable=known.mutable,
        default_value=wire.HCLString(value=known.default_value, valid=not known.required),
        icon=known.icon,
        options=[
            wire.PreviewOption(
                name=item.name,
                description=item.description,
                value=wire.HCLString(value=item.value, valid=True),
                icon=item.icon,
            )
            for item in known.options
        ],
        validations=_validations(known),
        required=known.required,
        order=known.display_order,
        ephemeral=known.ephemeral,
        value=wire.HCLString(value=found.value or "", valid=found.value is not None),
        diagnostics=[_diagnostic(item) for item in found.diagnostics],
    )


def _validations(known: Parameter) -> list[wire.PreviewValidation]:
    if not known.validated:
        return []
    return [
        wire.PreviewValidation(
            validation_error=known.validation_error,
            validation_regex=known.validation_regex or None,
            validation_min=known.validation_min,
            validation_max=known.validation_max,
            validation_monotonic=known.validation_monotonic or None,
        )
    ]


def _diagnostic(found: Diagnostic) -> wire.Diagnostic:
    return wire.Diagnostic(
        severity=found.severity.value,
        summary=found.summary,
        detail=found.detail,
        extra=wire.DiagnosticExtra(code=found.code),
    )
