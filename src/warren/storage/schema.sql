-- What the migrations make; written by scripts/dump_schema.py.


CREATE TYPE agent_lifecycle AS ENUM ('created', 'starting', 'start_timeout', 'start_error', 'ready', 'shutting_down', 'shutdown_timeout', 'shutdown_error', 'off');
CREATE TYPE app_health AS ENUM ('disabled', 'initializing', 'healthy', 'unhealthy');
CREATE TYPE automatic_updates AS ENUM ('always', 'never');
CREATE TYPE build_reason AS ENUM ('initiator', 'autostart', 'autostop', 'dormancy', 'autodelete', 'dashboard', 'cli', 'ssh_connection', 'vscode_connection', 'jetbrains_connection');
CREATE TYPE job_status AS ENUM ('pending', 'running', 'succeeded', 'canceling', 'canceled', 'failed');
CREATE TYPE job_type AS ENUM ('template_version_import', 'workspace_build', 'template_version_dry_run');
CREATE TYPE log_level AS ENUM ('trace', 'debug', 'info', 'warn', 'error');
CREATE TYPE log_source AS ENUM ('provisioner_daemon', 'provisioner');
CREATE TYPE login_type AS ENUM ('password', 'github', 'oidc', 'token', 'none');
CREATE TYPE sharing_level AS ENUM ('owner', 'authenticated', 'organization', 'public');
CREATE TYPE transition AS ENUM ('start', 'stop', 'delete');
CREATE TYPE user_status AS ENUM ('active', 'dormant', 'suspended');

CREATE TABLE api_keys (
    id text NOT NULL,
    hashed_secret bytea NOT NULL,
    user_id uuid NOT NULL,
    login_type login_type NOT NULL,
    token_name text NOT NULL DEFAULT ''::text,
    scopes text[] NOT NULL DEFAULT '{coder:all}'::text[],
    allow_list text[] NOT NULL DEFAULT '{*:*}'::text[],
    lifetime_seconds bigint NOT NULL,
    ip_address inet,
    last_used timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT api_keys_id_check CHECK ((length(id) = 10)),
    CONSTRAINT api_keys_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id)
);

CREATE TABLE connection_logs (
    id uuid NOT NULL,
    connection_id uuid,
    organization_id uuid NOT NULL,
    workspace_owner_id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    workspace_name text NOT NULL,
    agent_name text NOT NULL,
    type text NOT NULL,
    ip inet,
    status_code integer,
    user_agent text,
    user_id uuid,
    slug_or_port text,
    disconnect_reason text,
    connected_at timestamp with time zone NOT NULL,
    disconnected_at timestamp with time zone,
    CONSTRAINT connection_logs_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id) ON DELETE CASCADE,
    CONSTRAINT connection_logs_pkey PRIMARY KEY (id)
);

CREATE TABLE crypto_keys (
    feature text NOT NULL,
    sequence integer NOT NULL,
    secret bytea,
    starts_at timestamp with time zone NOT NULL,
    deletes_at timestamp with time zone,
    CONSTRAINT crypto_keys_pkey PRIMARY KEY (feature, sequence)
);

CREATE TABLE deployment (
    id uuid NOT NULL,
    singleton boolean NOT NULL DEFAULT true,
    created_at timestamp with time zone NOT NULL,
    derp_private_key bytea NOT NULL,
    CONSTRAINT deployment_derp_private_key_check CHECK ((length(derp_private_key) = 32)),
    CONSTRAINT deployment_singleton_check CHECK (singleton),
    CONSTRAINT deployment_pkey PRIMARY KEY (id),
    CONSTRAINT deployment_singleton_key UNIQUE (singleton)
);

CREATE TABLE files (
    id uuid NOT NULL,
    hash bytea NOT NULL,
    created_by uuid NOT NULL,
    mimetype text NOT NULL,
    content bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT files_hash_check CHECK ((length(hash) = 32)),
    CONSTRAINT files_pkey PRIMARY KEY (id),
    CONSTRAINT files_hash_created_by_key UNIQUE (hash, created_by)
);

CREATE TABLE git_ssh_keys (
    user_id uuid NOT NULL,
    private_key text NOT NULL,
    public_key text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT git_ssh_keys_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE,
    CONSTRAINT git_ssh_keys_pkey PRIMARY KEY (user_id)
);

CREATE TABLE group_members (
    group_id uuid NOT NULL,
    user_id uuid NOT NULL,
    CONSTRAINT group_members_group_id_fkey FOREIGN KEY (group_id) REFERENCES groups(id) ON DELETE CASCADE,
    CONSTRAINT group_members_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE,
    CONSTRAINT group_members_pkey PRIMARY KEY (group_id, user_id)
);

CREATE TABLE groups (
    id uuid NOT NULL,
    organization_id uuid NOT NULL,
    name text NOT NULL,
    display_name text NOT NULL DEFAULT ''::text,
    avatar_url text NOT NULL DEFAULT ''::text,
    quota_allowance integer NOT NULL DEFAULT 0,
    source text NOT NULL DEFAULT 'user'::text,
    CONSTRAINT groups_source_check CHECK ((source = ANY (ARRAY['user'::text, 'oidc'::text]))),
    CONSTRAINT groups_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id) ON DELETE CASCADE,
    CONSTRAINT groups_pkey PRIMARY KEY (id),
    CONSTRAINT groups_organization_id_name_key UNIQUE (organization_id, name)
);

CREATE TABLE organization_members (
    organization_id uuid NOT NULL,
    user_id uuid NOT NULL,
    roles text[] NOT NULL DEFAULT '{}'::text[],
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT organization_members_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id) ON DELETE CASCADE,
    CONSTRAINT organization_members_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE,
    CONSTRAINT organization_members_pkey PRIMARY KEY (organization_id, user_id)
);

CREATE TABLE organizations (
    id uuid NOT NULL,
    name text NOT NULL,
    display_name text NOT NULL DEFAULT ''::text,
    description text NOT NULL DEFAULT ''::text,
    icon text NOT NULL DEFAULT ''::text,
    is_default boolean NOT NULL DEFAULT false,
    default_member_roles text[] NOT NULL DEFAULT '{organization-workspace-access}'::text[],
    shareable_workspace_owners text NOT NULL DEFAULT 'everyone'::text,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    deleted boolean NOT NULL DEFAULT false,
    CONSTRAINT organizations_shareable_workspace_owners_check CHECK ((shareable_workspace_owners = ANY (ARRAY['none'::text, 'everyone'::text, 'service_accounts'::text]))),
    CONSTRAINT organizations_pkey PRIMARY KEY (id)
);

CREATE TABLE provisioner_daemons (
    id uuid NOT NULL,
    organization_id uuid NOT NULL,
    key_id uuid NOT NULL,
    name text NOT NULL,
    version text NOT NULL DEFAULT ''::text,
    api_version text NOT NULL DEFAULT '1.0'::text,
    provisioners text[] NOT NULL,
    tags jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamp with time zone NOT NULL,
    last_seen_at timestamp with time zone,
    CONSTRAINT provisioner_daemons_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id) ON DELETE CASCADE,
    CONSTRAINT provisioner_daemons_pkey PRIMARY KEY (id)
);

CREATE TABLE provisioner_job_logs (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    job_id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    source log_source NOT NULL,
    level log_level NOT NULL,
    stage character varying(128) NOT NULL,
    output character varying(1024) NOT NULL,
    CONSTRAINT provisioner_job_logs_job_id_fkey FOREIGN KEY (job_id) REFERENCES provisioner_jobs(id) ON DELETE CASCADE,
    CONSTRAINT provisioner_job_logs_pkey PRIMARY KEY (id)
);

CREATE TABLE provisioner_job_timings (
    job_id uuid NOT NULL,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    stage text NOT NULL,
    source text NOT NULL,
    action text NOT NULL,
    resource text NOT NULL,
    CONSTRAINT provisioner_job_timings_job_id_fkey FOREIGN KEY (job_id) REFERENCES provisioner_jobs(id) ON DELETE CASCADE
);

CREATE TABLE provisioner_jobs (
    id uuid NOT NULL,
    organization_id uuid NOT NULL,
    initiator_id uuid NOT NULL,
    provisioner text NOT NULL DEFAULT 'terraform'::text,
    type job_type NOT NULL,
    file_id uuid NOT NULL,
    input jsonb NOT NULL,
    tags jsonb NOT NULL DEFAULT '{}'::jsonb,
    worker_id uuid,
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamp with time zone,
    error text NOT NULL DEFAULT ''::text,
    error_code text NOT NULL DEFAULT ''::text,
    logs_length integer NOT NULL DEFAULT 0,
    logs_overflowed boolean NOT NULL DEFAULT false,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    started_at timestamp with time zone,
    canceled_at timestamp with time zone,
    completed_at timestamp with time zone,
    status job_status NOT NULL GENERATED ALWAYS AS (
CASE
    WHEN ((completed_at IS NOT NULL) AND (error <> ''::text)) THEN 'failed'::job_status
    WHEN ((completed_at IS NOT NULL) AND (canceled_at IS NOT NULL)) THEN 'canceled'::job_status
    WHEN (completed_at IS NOT NULL) THEN 'succeeded'::job_status
    WHEN (error <> ''::text) THEN 'failed'::job_status
    WHEN (canceled_at IS NOT NULL) THEN 'canceling'::job_status
    WHEN (started_at IS NOT NULL) THEN 'running'::job_status
    ELSE 'pending'::job_status
END) STORED,
    CONSTRAINT provisioner_jobs_logs_length_check CHECK ((logs_length <= 1048576)),
    CONSTRAINT provisioner_jobs_file_id_fkey FOREIGN KEY (file_id) REFERENCES files(id),
    CONSTRAINT provisioner_jobs_initiator_id_fkey FOREIGN KEY (initiator_id) REFERENCES users(id),
    CONSTRAINT provisioner_jobs_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id) ON DELETE CASCADE,
    CONSTRAINT provisioner_jobs_pkey PRIMARY KEY (id)
);

CREATE TABLE provisioner_keys (
    id uuid NOT NULL,
    organization_id uuid NOT NULL,
    name text NOT NULL,
    hashed_secret bytea NOT NULL,
    tags jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT provisioner_keys_name_check CHECK ((length(name) <= 64)),
    CONSTRAINT provisioner_keys_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id) ON DELETE CASCADE,
    CONSTRAINT provisioner_keys_pkey PRIMARY KEY (id)
);

CREATE TABLE schema_migrations (
    number integer NOT NULL,
    name text NOT NULL,
    applied_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT schema_migrations_pkey PRIMARY KEY (number)
);

CREATE TABLE site_configs (
    key text NOT NULL,
    value jsonb NOT NULL,
    CONSTRAINT site_configs_pkey PRIMARY KEY (key)
);

CREATE TABLE template_version_parameters (
    template_version_id uuid NOT NULL,
    position integer NOT NULL,
    name text NOT NULL,
    display_name text NOT NULL DEFAULT ''::text,
    description text NOT NULL DEFAULT ''::text,
    type text NOT NULL,
    form_type text NOT NULL DEFAULT ''::text,
    mutable boolean NOT NULL,
    default_value text NOT NULL DEFAULT ''::text,
    icon text NOT NULL DEFAULT ''::text,
    options jsonb NOT NULL DEFAULT '[]'::jsonb,
    validation_regex text NOT NULL DEFAULT ''::text,
    validation_error text NOT NULL DEFAULT ''::text,
    validation_min integer,
    validation_max integer,
    validation_monotonic text NOT NULL DEFAULT ''::text,
    required boolean NOT NULL,
    ephemeral boolean NOT NULL DEFAULT false,
    display_order integer NOT NULL DEFAULT 0,
    CONSTRAINT template_version_parameters_template_version_id_fkey FOREIGN KEY (template_version_id) REFERENCES template_versions(id) ON DELETE CASCADE,
    CONSTRAINT template_version_parameters_pkey PRIMARY KEY (template_version_id, name)
);

CREATE TABLE template_version_presets (
    id uuid NOT NULL,
    template_version_id uuid NOT NULL,
    position integer NOT NULL,
    name text NOT NULL,
    description text NOT NULL DEFAULT ''::text,
    icon text NOT NULL DEFAULT ''::text,
    is_default boolean NOT NULL DEFAULT false,
    desired_prebuilds integer,
    parameters jsonb NOT NULL DEFAULT '[]'::jsonb,
    CONSTRAINT template_version_presets_template_version_id_fkey FOREIGN KEY (template_version_id) REFERENCES template_versions(id) ON DELETE CASCADE,
    CONSTRAINT template_version_presets_pkey PRIMARY KEY (id)
);

CREATE TABLE template_version_tags (
    template_version_id uuid NOT NULL,
    key text NOT NULL,
    value text NOT NULL,
    CONSTRAINT template_version_tags_template_version_id_fkey FOREIGN KEY (template_version_id) REFERENCES template_versions(id) ON DELETE CASCADE,
    CONSTRAINT template_version_tags_pkey PRIMARY KEY (template_version_id, key)
);

CREATE TABLE template_version_variables (
    template_version_id uuid NOT NULL,
    position integer NOT NULL,
    name text NOT NULL,
    description text NOT NULL DEFAULT ''::text,
    type text NOT NULL,
    value text NOT NULL DEFAULT ''::text,
    default_value text NOT NULL DEFAULT ''::text,
    required boolean NOT NULL,
    sensitive boolean NOT NULL,
    CONSTRAINT template_version_variables_template_version_id_fkey FOREIGN KEY (template_version_id) REFERENCES template_versions(id) ON DELETE CASCADE,
    CONSTRAINT template_version_variables_pkey PRIMARY KEY (template_version_id, name)
);

CREATE TABLE template_versions (
    id uuid NOT NULL,
    template_id uuid,
    organization_id uuid NOT NULL,
    job_id uuid NOT NULL,
    name text NOT NULL,
    message character varying(1048576) NOT NULL DEFAULT ''::character varying,
    readme character varying(1048576) NOT NULL DEFAULT ''::character varying,
    created_by uuid NOT NULL,
    external_auth_providers jsonb NOT NULL DEFAULT '[]'::jsonb,
    cached_plan jsonb,
    module_files_id uuid,
    provisioner_api_version text NOT NULL DEFAULT ''::text,
    has_ai_task boolean NOT NULL DEFAULT false,
    has_external_agent boolean NOT NULL DEFAULT false,
    archived boolean NOT NULL DEFAULT false,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT template_versions_created_by_fkey FOREIGN KEY (created_by) REFERENCES users(id),
    CONSTRAINT template_versions_job_id_fkey FOREIGN KEY (job_id) REFERENCES provisioner_jobs(id),
    CONSTRAINT template_versions_module_files_id_fkey FOREIGN KEY (module_files_id) REFERENCES files(id),
    CONSTRAINT template_versions_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id) ON DELETE CASCADE,
    CONSTRAINT template_versions_template_id_fkey FOREIGN KEY (template_id) REFERENCES templates(id) ON DELETE CASCADE,
    CONSTRAINT template_versions_pkey PRIMARY KEY (id),
    CONSTRAINT template_versions_job_id_key UNIQUE (job_id),
    CONSTRAINT template_versions_template_id_name_key UNIQUE (template_id, name)
);

CREATE TABLE templates (
    id uuid NOT NULL,
    organization_id uuid NOT NULL,
    name text NOT NULL,
    display_name text NOT NULL DEFAULT ''::text,
    description text NOT NULL DEFAULT ''::text,
    icon text NOT NULL DEFAULT ''::text,
    provisioner text NOT NULL DEFAULT 'terraform'::text,
    active_version_id uuid NOT NULL,
    created_by uuid NOT NULL,
    deprecation_message text NOT NULL DEFAULT ''::text,
    default_ttl_ms bigint NOT NULL DEFAULT 0,
    activity_bump_ms bigint NOT NULL DEFAULT 3600000,
    time_til_autostop_notify_ms bigint NOT NULL DEFAULT 0,
    failure_ttl_ms bigint NOT NULL DEFAULT 0,
    time_til_dormant_ms bigint NOT NULL DEFAULT 0,
    time_til_dormant_autodelete_ms bigint NOT NULL DEFAULT 0,
    autostop_days_of_week smallint NOT NULL DEFAULT 0,
    autostop_weeks bigint NOT NULL DEFAULT 1,
    autostart_days_of_week smallint NOT NULL DEFAULT 127,
    allow_user_cancel_workspace_jobs boolean NOT NULL DEFAULT false,
    allow_user_autostart boolean NOT NULL DEFAULT true,
    allow_user_autostop boolean NOT NULL DEFAULT true,
    require_active_version boolean NOT NULL DEFAULT false,
    use_classic_parameter_flow boolean NOT NULL DEFAULT false,
    disable_module_cache boolean NOT NULL DEFAULT false,
    max_port_share_level sharing_level NOT NULL DEFAULT 'owner'::sharing_level,
    cors_behavior text NOT NULL DEFAULT 'simple'::text,
    user_acl jsonb NOT NULL DEFAULT '{}'::jsonb,
    group_acl jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    deleted boolean NOT NULL DEFAULT false,
    CONSTRAINT templates_cors_behavior_check CHECK ((cors_behavior = ANY (ARRAY['simple'::text, 'passthru'::text]))),
    CONSTRAINT templates_active_version_id_fkey FOREIGN KEY (active_version_id) REFERENCES template_versions(id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT templates_created_by_fkey FOREIGN KEY (created_by) REFERENCES users(id),
    CONSTRAINT templates_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id) ON DELETE CASCADE,
    CONSTRAINT templates_pkey PRIMARY KEY (id)
);

CREATE TABLE user_configs (
    user_id uuid NOT NULL,
    key text NOT NULL,
    value text NOT NULL,
    CONSTRAINT user_configs_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE,
    CONSTRAINT user_configs_pkey PRIMARY KEY (user_id, key)
);

CREATE TABLE users (
    id uuid NOT NULL,
    email text NOT NULL,
    username text NOT NULL,
    name text NOT NULL DEFAULT ''::text,
    avatar_url text NOT NULL DEFAULT ''::text,
    hashed_password text NOT NULL DEFAULT ''::text,
    login_type login_type NOT NULL DEFAULT 'password'::login_type,
    status user_status NOT NULL DEFAULT 'dormant'::user_status,
    roles text[] NOT NULL DEFAULT '{}'::text[],
    is_system boolean NOT NULL DEFAULT false,
    is_service_account boolean NOT NULL DEFAULT false,
    quiet_hours_schedule text NOT NULL DEFAULT ''::text,
    last_seen_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    deleted boolean NOT NULL DEFAULT false,
    CONSTRAINT users_pkey PRIMARY KEY (id)
);

CREATE TABLE workspace_agent_log_sources (
    agent_id uuid NOT NULL,
    id uuid NOT NULL,
    display_name text NOT NULL,
    icon text NOT NULL DEFAULT ''::text,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT workspace_agent_log_sources_agent_id_fkey FOREIGN KEY (agent_id) REFERENCES workspace_agents(id) ON DELETE CASCADE,
    CONSTRAINT workspace_agent_log_sources_pkey PRIMARY KEY (agent_id, id)
);

CREATE TABLE workspace_agent_logs (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    agent_id uuid NOT NULL,
    log_source_id uuid NOT NULL,
    level log_level NOT NULL,
    output text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT workspace_agent_logs_agent_id_fkey FOREIGN KEY (agent_id) REFERENCES workspace_agents(id) ON DELETE CASCADE,
    CONSTRAINT workspace_agent_logs_pkey PRIMARY KEY (id)
);

CREATE TABLE workspace_agent_metadata (
    agent_id uuid NOT NULL,
    key text NOT NULL,
    display_name text NOT NULL,
    script text NOT NULL,
    interval_seconds bigint NOT NULL,
    timeout_seconds bigint NOT NULL,
    display_order integer NOT NULL DEFAULT 0,
    value text NOT NULL DEFAULT ''::text,
    error text NOT NULL DEFAULT ''::text,
    collected_at timestamp with time zone,
    CONSTRAINT workspace_agent_metadata_agent_id_fkey FOREIGN KEY (agent_id) REFERENCES workspace_agents(id) ON DELETE CASCADE,
    CONSTRAINT workspace_agent_metadata_pkey PRIMARY KEY (agent_id, key)
);

CREATE TABLE workspace_agent_script_timings (
    script_id uuid NOT NULL,
    stage text NOT NULL,
    status text NOT NULL,
    exit_code integer NOT NULL,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    CONSTRAINT workspace_agent_script_timings_stage_check CHECK ((stage = ANY (ARRAY['start'::text, 'stop'::text, 'cron'::text]))),
    CONSTRAINT workspace_agent_script_timings_status_check CHECK ((status = ANY (ARRAY['ok'::text, 'exit_failure'::text, 'timed_out'::text, 'pipes_left_open'::text]))),
    CONSTRAINT workspace_agent_script_timings_script_id_fkey FOREIGN KEY (script_id) REFERENCES workspace_agent_scripts(id) ON DELETE CASCADE
);

CREATE TABLE workspace_agent_scripts (
    id uuid NOT NULL,
    agent_id uuid NOT NULL,
    log_source_id uuid NOT NULL,
    display_name text NOT NULL DEFAULT ''::text,
    log_path text NOT NULL DEFAULT ''::text,
    script text NOT NULL,
    cron text NOT NULL DEFAULT ''::text,
    start_blocks_login boolean NOT NULL DEFAULT false,
    run_on_start boolean NOT NULL DEFAULT false,
    run_on_stop boolean NOT NULL DEFAULT false,
    timeout_seconds integer NOT NULL DEFAULT 0,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT workspace_agent_scripts_agent_id_fkey FOREIGN KEY (agent_id) REFERENCES workspace_agents(id) ON DELETE CASCADE,
    CONSTRAINT workspace_agent_scripts_pkey PRIMARY KEY (id)
);

CREATE TABLE workspace_agent_stats (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    agent_id uuid NOT NULL,
    user_id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    template_id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    connections_by_proto jsonb NOT NULL DEFAULT '{}'::jsonb,
    connection_count bigint NOT NULL DEFAULT 0,
    connection_median_latency_ms double precision NOT NULL DEFAULT '-1'::integer,
    rx_packets bigint NOT NULL DEFAULT 0,
    rx_bytes bigint NOT NULL DEFAULT 0,
    tx_packets bigint NOT NULL DEFAULT 0,
    tx_bytes bigint NOT NULL DEFAULT 0,
    sessions jsonb NOT NULL DEFAULT '{}'::jsonb,
    CONSTRAINT workspace_agent_stats_pkey PRIMARY KEY (id)
);

CREATE TABLE workspace_agents (
    id uuid NOT NULL,
    parent_id uuid,
    resource_id uuid NOT NULL,
    name text NOT NULL,
    auth_token uuid NOT NULL,
    auth_instance_id text,
    architecture text NOT NULL,
    operating_system text NOT NULL,
    directory text NOT NULL DEFAULT ''::text,
    expanded_directory text NOT NULL DEFAULT ''::text,
    environment_variables jsonb NOT NULL DEFAULT '{}'::jsonb,
    motd_file text NOT NULL DEFAULT ''::text,
    connection_timeout_seconds integer NOT NULL DEFAULT 0,
    troubleshooting_url text NOT NULL DEFAULT ''::text,
    display_apps text[] NOT NULL DEFAULT '{}'::text[],
    display_order integer NOT NULL DEFAULT 0,
    api_key_scope text NOT NULL DEFAULT 'all'::text,
    resources_monitoring jsonb,
    version text NOT NULL DEFAULT ''::text,
    api_version text NOT NULL DEFAULT ''::text,
    subsystems text[] NOT NULL DEFAULT '{}'::text[],
    lifecycle agent_lifecycle NOT NULL DEFAULT 'created'::agent_lifecycle,
    started_at timestamp with time zone,
    ready_at timestamp with time zone,
    first_connected_at timestamp with time zone,
    last_connected_at timestamp with time zone,
    disconnected_at timestamp with time zone,
    connected_replica_id uuid,
    logs_length integer NOT NULL DEFAULT 0,
    logs_overflowed boolean NOT NULL DEFAULT false,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    deleted boolean NOT NULL DEFAULT false,
    CONSTRAINT workspace_agents_logs_length_check CHECK ((logs_length <= 1048576)),
    CONSTRAINT workspace_agents_parent_id_fkey FOREIGN KEY (parent_id) REFERENCES workspace_agents(id) ON DELETE CASCADE,
    CONSTRAINT workspace_agents_resource_id_fkey FOREIGN KEY (resource_id) REFERENCES workspace_resources(id) ON DELETE CASCADE,
    CONSTRAINT workspace_agents_pkey PRIMARY KEY (id),
    CONSTRAINT workspace_agents_auth_token_key UNIQUE (auth_token)
);

CREATE TABLE workspace_app_statuses (
    id uuid NOT NULL,
    app_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    state text NOT NULL,
    message text NOT NULL,
    uri text NOT NULL DEFAULT ''::text,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT workspace_app_statuses_state_check CHECK ((state = ANY (ARRAY['working'::text, 'idle'::text, 'complete'::text, 'failure'::text]))),
    CONSTRAINT workspace_app_statuses_agent_id_fkey FOREIGN KEY (agent_id) REFERENCES workspace_agents(id) ON DELETE CASCADE,
    CONSTRAINT workspace_app_statuses_app_id_fkey FOREIGN KEY (app_id) REFERENCES workspace_apps(id) ON DELETE CASCADE,
    CONSTRAINT workspace_app_statuses_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE,
    CONSTRAINT workspace_app_statuses_pkey PRIMARY KEY (id)
);

CREATE TABLE workspace_apps (
    id uuid NOT NULL,
    agent_id uuid NOT NULL,
    slug text NOT NULL,
    display_name text NOT NULL DEFAULT ''::text,
    icon text NOT NULL DEFAULT ''::text,
    command text NOT NULL DEFAULT ''::text,
    url text NOT NULL DEFAULT ''::text,
    external boolean NOT NULL DEFAULT false,
    subdomain boolean NOT NULL DEFAULT false,
    sharing_level sharing_level NOT NULL DEFAULT 'owner'::sharing_level,
    healthcheck_url text NOT NULL DEFAULT ''::text,
    healthcheck_interval integer NOT NULL DEFAULT 0,
    healthcheck_threshold integer NOT NULL DEFAULT 0,
    health app_health NOT NULL DEFAULT 'disabled'::app_health,
    display_order integer NOT NULL DEFAULT 0,
    display_group text NOT NULL DEFAULT ''::text,
    hidden boolean NOT NULL DEFAULT false,
    open_in text NOT NULL DEFAULT 'slim-window'::text,
    tooltip text NOT NULL DEFAULT ''::text,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT workspace_apps_agent_id_fkey FOREIGN KEY (agent_id) REFERENCES workspace_agents(id) ON DELETE CASCADE,
    CONSTRAINT workspace_apps_pkey PRIMARY KEY (id),
    CONSTRAINT workspace_apps_agent_id_slug_key UNIQUE (agent_id, slug)
);

CREATE TABLE workspace_build_parameters (
    workspace_build_id uuid NOT NULL,
    name text NOT NULL,
    value text NOT NULL,
    CONSTRAINT workspace_build_parameters_workspace_build_id_fkey FOREIGN KEY (workspace_build_id) REFERENCES workspace_builds(id) ON DELETE CASCADE,
    CONSTRAINT workspace_build_parameters_pkey PRIMARY KEY (workspace_build_id, name)
);

CREATE TABLE workspace_builds (
    id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    template_version_id uuid NOT NULL,
    template_version_preset_id uuid,
    job_id uuid NOT NULL,
    initiator_id uuid NOT NULL,
    build_number integer NOT NULL,
    transition transition NOT NULL,
    reason build_reason NOT NULL DEFAULT 'initiator'::build_reason,
    state bytea NOT NULL DEFAULT '\x'::bytea,
    daily_cost integer NOT NULL DEFAULT 0,
    deadline timestamp with time zone,
    max_deadline timestamp with time zone,
    has_ai_task boolean,
    has_external_agent boolean,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT workspace_builds_build_number_check CHECK ((build_number > 0)),
    CONSTRAINT workspace_builds_initiator_id_fkey FOREIGN KEY (initiator_id) REFERENCES users(id),
    CONSTRAINT workspace_builds_job_id_fkey FOREIGN KEY (job_id) REFERENCES provisioner_jobs(id),
    CONSTRAINT workspace_builds_template_version_id_fkey FOREIGN KEY (template_version_id) REFERENCES template_versions(id),
    CONSTRAINT workspace_builds_template_version_preset_id_fkey FOREIGN KEY (template_version_preset_id) REFERENCES template_version_presets(id) ON DELETE SET NULL,
    CONSTRAINT workspace_builds_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE,
    CONSTRAINT workspace_builds_pkey PRIMARY KEY (id),
    CONSTRAINT workspace_builds_job_id_key UNIQUE (job_id),
    CONSTRAINT workspace_builds_workspace_id_build_number_key UNIQUE (workspace_id, build_number)
);

CREATE TABLE workspace_favorites (
    user_id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    CONSTRAINT workspace_favorites_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE,
    CONSTRAINT workspace_favorites_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE,
    CONSTRAINT workspace_favorites_pkey PRIMARY KEY (user_id, workspace_id)
);

CREATE TABLE workspace_modules (
    job_id uuid NOT NULL,
    transition transition NOT NULL,
    source text NOT NULL,
    version text NOT NULL,
    key text NOT NULL,
    CONSTRAINT workspace_modules_job_id_fkey FOREIGN KEY (job_id) REFERENCES provisioner_jobs(id) ON DELETE CASCADE
);

CREATE TABLE workspace_resources (
    id uuid NOT NULL,
    job_id uuid NOT NULL,
    transition transition NOT NULL,
    type text NOT NULL,
    name text NOT NULL,
    hide boolean NOT NULL DEFAULT false,
    icon text NOT NULL DEFAULT ''::text,
    instance_type text NOT NULL DEFAULT ''::text,
    module_path text NOT NULL DEFAULT ''::text,
    daily_cost integer NOT NULL DEFAULT 0,
    metadata jsonb NOT NULL DEFAULT '[]'::jsonb,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT workspace_resources_job_id_fkey FOREIGN KEY (job_id) REFERENCES provisioner_jobs(id) ON DELETE CASCADE,
    CONSTRAINT workspace_resources_pkey PRIMARY KEY (id)
);

CREATE TABLE workspaces (
    id uuid NOT NULL,
    owner_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    template_id uuid NOT NULL,
    name text NOT NULL,
    autostart_schedule text,
    ttl_ms bigint,
    automatic_updates automatic_updates NOT NULL DEFAULT 'never'::automatic_updates,
    last_used_at timestamp with time zone NOT NULL,
    dormant_at timestamp with time zone,
    deleting_at timestamp with time zone,
    next_start_at timestamp with time zone,
    user_acl jsonb NOT NULL DEFAULT '{}'::jsonb,
    group_acl jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    deleted boolean NOT NULL DEFAULT false,
    CONSTRAINT workspaces_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id),
    CONSTRAINT workspaces_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES users(id),
    CONSTRAINT workspaces_template_id_fkey FOREIGN KEY (template_id) REFERENCES templates(id),
    CONSTRAINT workspaces_pkey PRIMARY KEY (id)
);

CREATE UNIQUE INDEX api_keys_token_name ON public.api_keys USING btree (user_id, token_name) WHERE (login_type = 'token'::login_type);
CREATE INDEX api_keys_user ON public.api_keys USING btree (user_id);
CREATE UNIQUE INDEX connection_logs_connection ON public.connection_logs USING btree (connection_id, workspace_id, agent_name) WHERE (connection_id IS NOT NULL);
CREATE INDEX group_members_user ON public.group_members USING btree (user_id);
CREATE INDEX organization_members_user ON public.organization_members USING btree (user_id);
CREATE UNIQUE INDEX organizations_default ON public.organizations USING btree (is_default) WHERE is_default;
CREATE UNIQUE INDEX organizations_name ON public.organizations USING btree (lower(name)) WHERE (NOT deleted);
CREATE UNIQUE INDEX provisioner_daemons_name ON public.provisioner_daemons USING btree (organization_id, name, lower(COALESCE((tags ->> 'owner'::text), ''::text)));
CREATE INDEX provisioner_job_logs_job ON public.provisioner_job_logs USING btree (job_id, id);
CREATE INDEX provisioner_job_timings_job ON public.provisioner_job_timings USING btree (job_id);
CREATE INDEX provisioner_jobs_completed ON public.provisioner_jobs USING btree (completed_at) WHERE (completed_at IS NOT NULL);
CREATE INDEX provisioner_jobs_leased ON public.provisioner_jobs USING btree (lease_until) WHERE ((started_at IS NOT NULL) AND (completed_at IS NULL));
CREATE INDEX provisioner_jobs_waiting ON public.provisioner_jobs USING btree (organization_id, created_at) WHERE ((started_at IS NULL) AND (completed_at IS NULL));
CREATE UNIQUE INDEX provisioner_keys_name ON public.provisioner_keys USING btree (organization_id, lower(name));
CREATE INDEX template_version_presets_version ON public.template_version_presets USING btree (template_version_id);
CREATE UNIQUE INDEX templates_name ON public.templates USING btree (organization_id, lower(name)) WHERE (NOT deleted);
CREATE UNIQUE INDEX users_email ON public.users USING btree (lower(email)) WHERE ((NOT deleted) AND (email <> ''::text));
CREATE UNIQUE INDEX users_username ON public.users USING btree (lower(username)) WHERE (NOT deleted);
CREATE INDEX workspace_agent_logs_agent ON public.workspace_agent_logs USING btree (agent_id, id);
CREATE INDEX workspace_agent_script_timings_script ON public.workspace_agent_script_timings USING btree (script_id, started_at);
CREATE INDEX workspace_agent_scripts_agent ON public.workspace_agent_scripts USING btree (agent_id);
CREATE INDEX workspace_agent_stats_created ON public.workspace_agent_stats USING btree (created_at);
CREATE INDEX workspace_agents_instance ON public.workspace_agents USING btree (auth_instance_id) WHERE (auth_instance_id IS NOT NULL);
CREATE INDEX workspace_agents_resource ON public.workspace_agents USING btree (resource_id);
CREATE INDEX workspace_app_statuses_app ON public.workspace_app_statuses USING btree (app_id, created_at);
CREATE INDEX workspace_modules_job ON public.workspace_modules USING btree (job_id);
CREATE INDEX workspace_resources_job ON public.workspace_resources USING btree (job_id);
CREATE UNIQUE INDEX workspaces_name ON public.workspaces USING btree (owner_id, lower(name)) WHERE (NOT deleted);
CREATE INDEX workspaces_template ON public.workspaces USING btree (template_id) WHERE (NOT deleted);
