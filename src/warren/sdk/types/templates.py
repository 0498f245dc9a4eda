"""Templates, their versions, parameters, variables and presets."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from warren.sdk.types.base import NIL_UUID, Milliseconds, Sparse, Wire
from warren.sdk.types.jobs import MatchedProvisioners, ProvisionerJob
from warren.sdk.types.users import MinimalUser


class TransitionStats(Wire, frozen=True):
    """How long builds of one transition take, in milliseconds."""

    P50: int | None
    P95: int | None


class AutostopRequirement(Wire, frozen=True):
    """Days on which a workspace must stop."""

    days_of_week: list[str] = []
    weeks: int = 1


class AutostartRequirement(Wire, frozen=True):
    """Days on which a workspace may start by itself."""

    days_of_week: list[str] = []


class Template(Wire, frozen=True):
    """What workspaces are made from."""

    id: UUID
    created_at: datetime
    updated_at: datetime
    organization_id: UUID
    organization_name: str
    organization_display_name: str
    organization_icon: str
    name: str
    display_name: str
    provisioner: str
    active_version_id: UUID
    active_user_count: int
    build_time_stats: dict[str, TransitionStats]
    description: str
    deprecated: bool
    deprecation_message: str
    deleted: bool
    icon: str
    default_ttl_ms: Milliseconds
    activity_bump_ms: Milliseconds
    time_til_autostop_notify_ms: Milliseconds
    autostop_requirement: AutostopRequirement
    autostart_requirement: AutostartRequirement
    created_by_id: UUID
    created_by_name: str
    allow_user_autostart: bool
    allow_user_autostop: bool
    allow_user_cancel_workspace_jobs: bool
    failure_ttl_ms: Milliseconds
    time_til_dormant_ms: Milliseconds
    time_til_dormant_autodelete_ms: Milliseconds
    require_active_version: bool
    max_port_share_level: str
    use_classic_parameter_flow: bool
    cors_behavior: str
    disable_module_cache: bool


class CreateTemplate(Sparse, frozen=True):
    """Make a template from a version that has none yet."""

    name: str = ""
    template_version_id: UUID = NIL_UUID
    display_name: str = ""
    description: str = ""
    icon: str = ""
    default_ttl_ms: Milliseconds | None = None
    activity_bump_ms: Milliseconds | None = None
    time_til_autostop_notify_ms: Milliseconds | None = None
    failure_ttl_ms: Milliseconds | None = None
    dormant_ttl_ms: Milliseconds | None = None
    delete_ttl_ms: Milliseconds | None = None
    autostop_requirement: AutostopRequirement | None = None
    autostart_requirement: AutostartRequirement | None = None
    allow_user_cancel_workspace_jobs: bool | None = None
    allow_user_autostart: bool | None = None
    allow_user_autostop: bool | None = None
    template_use_classic_parameter_flow: bool | None = None
    disable_everyone_group_access: bool = False
    require_active_version: bool = False
    max_port_share_level: str | None = None
    cors_behavior: str | None = None


class UpdateTemplate(Sparse, frozen=True):
    """Change a template; an absent key keeps its value."""

    name: str | None = None
    display_name: str | None = None
    description: str | None = None
    icon: str | None = None
    default_ttl_ms: Milliseconds | None = None
    activity_bump_ms: Milliseconds | None = None
    time_til_autostop_notify_ms: Milliseconds | None = None
    autostop_requirement: AutostopRequirement | None = None
    autostart_requirement: AutostartRequirement | None = None
    allow_user_autostart: bool | None = None
    allow_user_autostop: bool | None = None
    allow_user_cancel_workspace_jobs: bool | None = None
    failure_ttl_ms: Milliseconds | None = None
    time_til_dormant_ms: Milliseconds | None = None
    time_til_dormant_autodelete_ms: Milliseconds | None = None
    update_workspace_last_used_at: bool = False
    update_workspace_dormant_at: bool = False
    require_active_version: bool | None = None
    deprecation_message: str | None = None
    disable_everyone_group_access: bool | None = None
    max_port_share_level: str | None = None
    cors_behavior: str | None = None
    use_classic_parameter_flow: bool | None = None
    disable_module_cache: bool | None = None


class TemplateExample(Wire, frozen=True):
    """A starter template that comes with the server."""

    id: str
    url: str
    name: str
    description: str
    icon: str
    tags: list[str]
    markdown: str


class TemplateVersion(Sparse, frozen=True):
    """One push of a template."""

    id: UUID
    organization_id: UUID
    created_at: datetime
    updated_at: datetime
    name: str
    message: str
    job: ProvisionerJob
    readme: str
    created_by: MinimalUser
    archived: bool
    has_external_agent: bool
    template_id: UUID | None = None
    warnings: list[str] = []
    matched_provisioners: MatchedProvisioners | None = None


class VariableValue(Wire, frozen=True):
    """A value for a Terraform variable."""

    name: str
    value: str


class CreateTemplateVersion(Sparse, frozen=True):
    """Import a template version from an uploaded file or a starter template."""

    name: str = ""
    message: str = ""
    template_id: UUID = NIL_UUID
    storage_method: str = "file"
    file_id: UUID = NIL_UUID
    example_id: str = ""
    provisioner: str = "terraform"
    tags: dict[str, str] | None = None
    user_variable_values: list[VariableValue] | None = None


class UpdateTemplateVersion(Sparse, frozen=True):
    """Rename a version, or change its message."""

    name: str = ""
    message: str | None = None


class UpdateActiveVersion(Sparse, frozen=True):
    """Promote a version."""

    id: UUID


class ArchiveVersions(Sparse, frozen=True):
    """Archive unused versions; only failed ones unless `all`."""

    all: bool = False


class ArchivedVersions(Wire, frozen=True):
    """The versions that were archived."""

    template_id: UUID
    archived_ids: list[UUID]


class ParameterOption(Wire, frozen=True):
    """One choice of a parameter."""

    name: str
    description: str
    value: str
    icon: str


class TemplateVersionParameter(Sparse, frozen=True):
    """A question that a template asks."""

    name: str
    description: str
    description_plaintext: str
    type: str
    form_type: str
    mutable: bool
    default_value: str
    icon: str
    options: list[ParameterOption]
    required: bool
    ephemeral: bool
    display_name: str = ""
    validation_error: str = ""
    validation_regex: str = ""
    validation_min: int | None = None
    validation_max: int | None = None
    validation_monotonic: str = ""


class TemplateVersionVariable(Wire, frozen=True):
    """A Terraform variable; the value of a sensitive one is never shown."""

    name: str
    description: str
    type: str
    value: str
    default_value: str
    required: bool
    sensitive: bool


class TemplateVersionExternalAuth(Sparse, frozen=True):
    """A third party that a template needs the user to be signed in to."""

    id: str
    type: str
    display_name: str
    display_icon: str
    authenticate_url: str
    authenticated: bool
    optional: bool = False


class PresetParameter(Wire, frozen=True):
    """A value of a preset."""

    Name: str
    Value: str


class Preset(Wire, frozen=True):
    """A named set of parameter values."""

    ID: UUID
    Name: str
    Parameters: list[PresetParameter]
    Default: bool
    DesiredPrebuildInstances: int | None
    Description: str
    Icon: str


class BuildParameter(Wire, frozen=True):
    """A parameter and its value."""

    name: str
    value: str


class CreateDryRun(Sparse, frozen=True):
    """Plan a template version without building anything."""

    workspace_name: str = ""
    rich_parameter_values: list[BuildParameter] | None = None
    user_variable_values: list[VariableValue] | None = None


class DiagnosticExtra(Wire, frozen=True):
    """The machine-readable part of a diagnostic."""

    code: str


class Diagnostic(Wire, frozen=True):
    """What is wrong with a set of parameter values."""

    severity: str
    summary: str
    detail: str
    extra: DiagnosticExtra


class HCLString(Wire, frozen=True):
    """A value that may be unknown."""

    value: str
    valid: bool


class PreviewOption(Wire, frozen=True):
    """One choice of an evaluated parameter."""

    name: str
    description: str
    value: HCLString
    icon: str


class PreviewValidation(Wire, frozen=True):
    """One rule of an evaluated parameter."""

    validation_error: str
    validation_regex: str | None
    validation_min: int | None
    validation_max: int | None
    validation_monotonic: str | None


class PreviewStyling(Sparse, frozen=True):
    """How a form shows a parameter."""

    placeholder: str | None = None
    disabled: bool | None = None
    label: str | None = None
    mask_input: bool | None = None


class PreviewParameter(Wire, frozen=True):
    """A parameter as it stands for the given inputs."""

    name: str
    display_name: str
    description: str
    type: str
    form_type: str
    styling: PreviewStyling
    mutable: bool
    default_value: HCLString
    icon: str
    options: list[PreviewOption]
    validations: list[PreviewValidation]
    required: bool
    order: int
    ephemeral: bool
    value: HCLString
    diagnostics: list[Diagnostic]


class DynamicParametersRequest(Sparse, frozen=True):
    """Evaluate a template's parameters for these inputs."""

    id: int = 0
    inputs: dict[str, str] | None = None
    owner_id: UUID = NIL_UUID


class DynamicParametersResponse(Wire, frozen=True):
    """The parameters as they stand for the inputs of the request with this id."""

    id: int
    diagnostics: list[Diagnostic]
    parameters: list[PreviewParameter]
