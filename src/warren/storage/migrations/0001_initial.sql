-- The schema of the main job: accounts, files, templates, workspaces, builds, jobs, agents.
-- Needs PostgreSQL 13 or newer and no extension.

CREATE TYPE user_status AS ENUM ('active', 'dormant', 'suspended');
CREATE TYPE login_type AS ENUM ('password', 'github', 'oidc', 'token', 'none');
CREATE TYPE job_type AS ENUM ('template_version_import', 'workspace_build', 'template_version_dry_run');
CREATE TYPE job_status AS ENUM ('pending', 'running', 'succeeded', 'canceling', 'canceled', 'failed');
CREATE TYPE log_source AS ENUM ('provisioner_daemon', 'provisioner');
CREATE TYPE log_level AS ENUM ('trace', 'debug', 'info', 'warn', 'error');
CREATE TYPE transition AS ENUM ('start', 'stop', 'delete');
CREATE TYPE build_reason AS ENUM (
    'initiator', 'autostart', 'autostop', 'dormancy', 'autodelete', 'dashboard', 'cli',
    'ssh_connection', 'vscode_connection', 'jetbrains_connection');
CREATE TYPE automatic_updates AS ENUM ('always', 'never');
CREATE TYPE sharing_level AS ENUM ('owner', 'authenticated', 'organization', 'public');
CREATE TYPE app_health AS ENUM ('disabled', 'initializing', 'healthy', 'unhealthy');
CREATE TYPE agent_lifecycle AS ENUM (
    'created', 'starting', 'start_timeout', 'start_error', 'ready',
    'shutting_down', 'shutdown_timeout', 'shutdown_error', 'off');

-- One row each: what the deployment is and what was set in it.
CREATE TABLE deployment (
    id uuid PRIMARY KEY,
    singleton boolean NOT NULL DEFAULT true UNIQUE CHECK (singleton),
    created_at timestamptz NOT NULL,
    derp_private_key bytea NOT NULL CHECK (length(derp_private_key) = 32)
);

CREATE TABLE site_configs (
    key text PRIMARY KEY,
    value jsonb NOT NULL
);

CREATE TABLE crypto_keys (
    feature text NOT NULL,
    sequence integer NOT NULL,
    secret bytea,
    starts_at timestamptz NOT NULL,
    deletes_at timestamptz,
    PRIMARY KEY (feature, sequence)
);

-- Accounts -----------------------------------------------------------------------------------------------------------

CREATE TABLE users (
    id uuid PRIMARY KEY,
    email text NOT NULL,
    username text NOT NULL,
    name text NOT NULL DEFAULT '',
    avatar_url text NOT NULL DEFAULT '',
    hashed_password text NOT NULL DEFAULT '',
    login_type login_type NOT NULL DEFAULT 'password',
    status user_status NOT NULL DEFAULT 'dormant',
    roles text[] NOT NULL DEFAULT '{}',
    is_system boolean NOT NULL DEFAULT false,
    is_service_account boolean NOT NULL DEFAULT false,
    quiet_hours_schedule text NOT NULL DEFAULT '',
    last_seen_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX users_username ON users (lower(username)) WHERE NOT deleted;
CREATE UNIQUE INDEX users_email ON users (lower(email)) WHERE NOT deleted AND email <> '';

CREATE TABLE user_configs (
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    key text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (user_id, key)
);

CREATE TABLE git_ssh_keys (
    user_id uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    private_key text NOT NULL,
    public_key text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE api_keys (
    id text PRIMARY KEY CHECK (length(id) = 10),
    hashed_secret bytea NOT NULL,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    login_type login_type NOT NULL,
    token_name text NOT NULL DEFAULT '',
    scopes text[] NOT NULL DEFAULT '{coder:all}',
    allow_list text[] NOT NULL DEFAULT '{*:*}',
    lifetime_seconds bigint NOT NULL,
    ip_address inet,
    last_used timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX api_keys_user ON api_keys (user_id);
CREATE UNIQUE INDEX api_keys_token_name ON api_keys (user_id, token_name) WHERE login_type = 'token';

CREATE TABLE organizations (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    display_name text NOT NULL DEFAULT '',
    description text NOT NULL DEFAULT '',
    icon text NOT NULL DEFAULT '',
    is_default boolean NOT NULL DEFAULT false,
    default_member_roles text[] NOT NULL DEFAULT '{organization-workspace-access}',
    shareable_workspace_owners text NOT NULL DEFAULT 'everyone'
        CHECK (shareable_workspace_owners IN ('none', 'everyone', 'service_accounts')),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX organizations_name ON organizations (lower(name)) WHERE NOT deleted;
CREATE UNIQUE INDEX organizations_default ON organizations (is_default) WHERE is_default;

CREATE TABLE organization_members (
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    roles text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX organization_members_user ON organization_members (user_id);

-- The group whose id is the organization's is "Everyone"; its members are the organization's.
CREATE TABLE groups (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    name text NOT NULL,
    display_name text NOT NULL DEFAULT '',
    avatar_url text NOT NULL DEFAULT '',
    quota_allowance integer NOT NULL DEFAULT 0,
    source text NOT NULL DEFAULT 'user' CHECK (source IN ('user', 'oidc')),
    UNIQUE (organization_id, name)
);

CREATE TABLE group_members (
    group_id uuid NOT NULL REFERENCES groups ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX group_members_user ON group_members (user_id);

-- Files and jobs -----------------------------------------------------------------------------------------------------

CREATE TABLE files (
    id uuid PRIMARY KEY,
    hash bytea NOT NULL CHECK (length(hash) = 32),
    created_by uuid NOT NULL,
    mimetype text NOT NULL,
    content bytea NOT NULL,
    created_at timestamptz NOT NULL,
    UNIQUE (hash, created_by)
);

CREATE TABLE provisioner_keys (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    name text NOT NULL CHECK (length(name) <= 64),
    hashed_secret bytea NOT NULL,
    tags jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX provisioner_keys_name ON provisioner_keys (organization_id, lower(name));

CREATE TABLE provisioner_daemons (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    key_id uuid NOT NULL,
    name text NOT NULL,
    version text NOT NULL DEFAULT '',
    api_version text NOT NULL DEFAULT '1.0',
    provisioners text[] NOT NULL,
    tags jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    last_seen_at timestamptz
);
CREATE UNIQUE INDEX provisioner_daemons_name
    ON provisioner_daemons (organization_id, name, lower(coalesce(tags ->> 'owner', '')));

-- Long work. A daemon holds a job by a lease: `fence` grows with every hand-out, and an update that names an older
-- one is refused, so a worker believed dead can never overwrite its successor.
CREATE TABLE provisioner_jobs (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    initiator_id uuid NOT NULL REFERENCES users,
    provisioner text NOT NULL DEFAULT 'terraform',
    type job_type NOT NULL,
    file_id uuid NOT NULL REFERENCES files,
    input jsonb NOT NULL,
    tags jsonb NOT NULL DEFAULT '{}',
    worker_id uuid,
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    error text NOT NULL DEFAULT '',
    error_code text NOT NULL DEFAULT '',
    logs_length integer NOT NULL DEFAULT 0 CHECK (logs_length <= 1048576),
    logs_overflowed boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    started_at timestamptz,
    canceled_at timestamptz,
    completed_at timestamptz,
    status job_status NOT NULL GENERATED ALWAYS AS (
        CASE
            WHEN completed_at IS NOT NULL AND error <> '' THEN 'failed'::job_status
            WHEN completed_at IS NOT NULL AND canceled_at IS NOT NULL THEN 'canceled'::job_status
            WHEN completed_at IS NOT NULL THEN 'succeeded'::job_status
            WHEN error <> '' THEN 'failed'::job_status
            WHEN canceled_at IS NOT NULL THEN 'canceling'::job_status
            WHEN started_at IS NOT NULL THEN 'running'::job_status
            ELSE 'pending'::job_status
        END) STORED
);
CREATE INDEX provisioner_jobs_waiting ON provisioner_jobs (organization_id, created_at)
    WHERE started_at IS NULL AND completed_at IS NULL;
CREATE INDEX provisioner_jobs_leased ON provisioner_jobs (lease_until)
    WHERE started_at IS NOT NULL AND completed_at IS NULL;

CREATE TABLE provisioner_job_logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES provisioner_jobs ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    source log_source NOT NULL,
    level log_level NOT NULL,
    stage varchar(128) NOT NULL,
    output varchar(1024) NOT NULL
);
CREATE INDEX provisioner_job_logs_job ON provisioner_job_logs (job_id, id);

CREATE TABLE provisioner_job_timings (
    job_id uuid NOT NULL REFERENCES provisioner_jobs ON DELETE CASCADE,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    stage text NOT NULL,
    source text NOT NULL,
    action text NOT NULL,
    resource text NOT NULL
);
CREATE INDEX provisioner_job_timings_job ON provisioner_job_timings (job_id);

-- Templates ----------------------------------------------------------------------------------------------------------

CREATE TABLE templates (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    name text NOT NULL,
    display_name text NOT NULL DEFAULT '',
    description text NOT NULL DEFAULT '',
    icon text NOT NULL DEFAULT '',
    provisioner text NOT NULL DEFAULT 'terraform',
    active_version_id uuid NOT NULL,
    created_by uuid NOT NULL REFERENCES users,
    deprecation_message text NOT NULL DEFAULT '',
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
    max_port_share_level sharing_level NOT NULL DEFAULT 'owner',
    cors_behavior text NOT NULL DEFAULT 'simple' CHECK (cors_behavior IN ('simple', 'passthru')),
    user_acl jsonb NOT NULL DEFAULT '{}',
    group_acl jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX templates_name ON templates (organization_id, lower(name)) WHERE NOT deleted;

CREATE TABLE template_versions (
    id uuid PRIMARY KEY,
    template_id uuid REFERENCES templates ON DELETE CASCADE,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    job_id uuid NOT NULL UNIQUE REFERENCES provisioner_jobs,
    name text NOT NULL,
    message varchar(1048576) NOT NULL DEFAULT '',
    readme varchar(1048576) NOT NULL DEFAULT '',
    created_by uuid NOT NULL REFERENCES users,
    external_auth_providers jsonb NOT NULL DEFAULT '[]',
    cached_plan jsonb,
    module_files_id uuid REFERENCES files,
    provisioner_api_version text NOT NULL DEFAULT '',
    has_ai_task boolean NOT NULL DEFAULT false,
    has_external_agent boolean NOT NULL DEFAULT false,
    archived boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (template_id, name)
);
ALTER TABLE templates ADD FOREIGN KEY (active_version_id) REFERENCES template_versions DEFERRABLE INITIALLY DEFERRED;

CREATE TABLE template_version_parameters (
    template_version_id uuid NOT NULL REFERENCES template_versions ON DELETE CASCADE,
    position integer NOT NULL,
    name text NOT NULL,
    display_name text NOT NULL DEFAULT '',
    description text NOT NULL DEFAULT '',
    type text NOT NULL,
    form_type text NOT NULL DEFAULT '',
    mutable boolean NOT NULL,
    default_value text NOT NULL DEFAULT '',
    icon text NOT NULL DEFAULT '',
    options jsonb NOT NULL DEFAULT '[]',
    validation_regex text NOT NULL DEFAULT '',
    validation_error text NOT NULL DEFAULT '',
    validation_min integer,
    validation_max integer,
    validation_monotonic text NOT NULL DEFAULT '',
    required boolean NOT NULL,
    ephemeral boolean NOT NULL DEFAULT false,
    display_order integer NOT NULL DEFAULT 0,
    PRIMARY KEY (template_version_id, name)
);

CREATE TABLE template_version_variables (
    template_version_id uuid NOT NULL REFERENCES template_versions ON DELETE CASCADE,
    position integer NOT NULL,
    name text NOT NULL,
    description text NOT NULL DEFAULT '',
    type text NOT NULL,
    value text NOT NULL DEFAULT '',
    default_value text NOT NULL DEFAULT '',
    required boolean NOT NULL,
    sensitive boolean NOT NULL,
    PRIMARY KEY (template_version_id, name)
);

CREATE TABLE template_version_presets (
    id uuid PRIMARY KEY,
    template_version_id uuid NOT NULL REFERENCES template_versions ON DELETE CASCADE,
    position integer NOT NULL,
    name text NOT NULL,
    description text NOT NULL DEFAULT '',
    icon text NOT NULL DEFAULT '',
    is_default boolean NOT NULL DEFAULT false,
    desired_prebuilds integer,
    parameters jsonb NOT NULL DEFAULT '[]'
);
CREATE INDEX template_version_presets_version ON template_version_presets (template_version_id);

CREATE TABLE template_version_tags (
    template_version_id uuid NOT NULL REFERENCES template_versions ON DELETE CASCADE,
    key text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (template_version_id, key)
);

-- Workspaces ---------------------------------------------------------------------------------------------------------

CREATE TABLE workspaces (
    id uuid PRIMARY KEY,
    owner_id uuid NOT NULL REFERENCES users,
    organization_id uuid NOT NULL REFERENCES organizations,
    template_id uuid NOT NULL REFERENCES templates,
    name text NOT NULL,
    autostart_schedule text,
    ttl_ms bigint,
    automatic_updates automatic_updates NOT NULL DEFAULT 'never',
    last_used_at timestamptz NOT NULL,
    dormant_at timestamptz,
    deleting_at timestamptz,
    next_start_at timestamptz,
    user_acl jsonb NOT NULL DEFAULT '{}',
    group_acl jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX workspaces_name ON workspaces (owner_id, lower(name)) WHERE NOT deleted;
CREATE INDEX workspaces_template ON workspaces (template_id) WHERE NOT deleted;

CREATE TABLE workspace_favorites (
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    workspace_id uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    PRIMARY KEY (user_id, workspace_id)
);

CREATE TABLE workspace_builds (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    template_version_id uuid NOT NULL REFERENCES template_versions,
    template_version_preset_id uuid REFERENCES template_version_presets ON DELETE SET NULL,
    job_id uuid NOT NULL UNIQUE REFERENCES provisioner_jobs,
    initiator_id uuid NOT NULL REFERENCES users,
    build_number integer NOT NULL CHECK (build_number > 0),
    transition transition NOT NULL,
    reason build_reason NOT NULL DEFAULT 'initiator',
    state bytea NOT NULL DEFAULT '',
    daily_cost integer NOT NULL DEFAULT 0,
    deadline timestamptz,
    max_deadline timestamptz,
    has_ai_task boolean,
    has_external_agent boolean,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (workspace_id, build_number)
);

CREATE TABLE workspace_build_parameters (
    workspace_build_id uuid NOT NULL REFERENCES workspace_builds ON DELETE CASCADE,
    name text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (workspace_build_id, name)
);

CREATE TABLE workspace_resources (
    id uuid PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES provisioner_jobs ON DELETE CASCADE,
    transition transition NOT NULL,
    type text NOT NULL,
    name text NOT NULL,
    hide boolean NOT NULL DEFAULT false,
    icon text NOT NULL DEFAULT '',
    instance_type text NOT NULL DEFAULT '',
    module_path text NOT NULL DEFAULT '',
    daily_cost integer NOT NULL DEFAULT 0,
    metadata jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL
);
CREATE INDEX workspace_resources_job ON workspace_resources (job_id);

CREATE TABLE workspace_modules (
    job_id uuid NOT NULL REFERENCES provisioner_jobs ON DELETE CASCADE,
    transition transition NOT NULL,
    source text NOT NULL,
    version text NOT NULL,
    key text NOT NULL
);
CREATE INDEX workspace_modules_job ON workspace_modules (job_id);

-- Agents -------------------------------------------------------------------------------------------------------------

CREATE TABLE workspace_agents (
    id uuid PRIMARY KEY,
    parent_id uuid REFERENCES workspace_agents ON DELETE CASCADE,
    resource_id uuid NOT NULL REFERENCES workspace_resources ON DELETE CASCADE,
    name text NOT NULL,
    auth_token uuid NOT NULL UNIQUE,
    auth_instance_id text,
    architecture text NOT NULL,
    operating_system text NOT NULL,
    directory text NOT NULL DEFAULT '',
    expanded_directory text NOT NULL DEFAULT '',
    environment_variables jsonb NOT NULL DEFAULT '{}',
    motd_file text NOT NULL DEFAULT '',
    connection_timeout_seconds integer NOT NULL DEFAULT 0,
    troubleshooting_url text NOT NULL DEFAULT '',
    display_apps text[] NOT NULL DEFAULT '{}',
    display_order integer NOT NULL DEFAULT 0,
    api_key_scope text NOT NULL DEFAULT 'all',
    resources_monitoring jsonb,
    version text NOT NULL DEFAULT '',
    api_version text NOT NULL DEFAULT '',
    subsystems text[] NOT NULL DEFAULT '{}',
    lifecycle agent_lifecycle NOT NULL DEFAULT 'created',
    started_at timestamptz,
    ready_at timestamptz,
    first_connected_at timestamptz,
    last_connected_at timestamptz,
    disconnected_at timestamptz,
    connected_replica_id uuid,
    logs_length integer NOT NULL DEFAULT 0 CHECK (logs_length <= 1048576),
    logs_overflowed boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted boolean NOT NULL DEFAULT false
);
CREATE INDEX workspace_agents_resource ON workspace_agents (resource_id);
CREATE INDEX workspace_agents_instance ON workspace_agents (auth_instance_id) WHERE auth_instance_id IS NOT NULL;

CREATE TABLE workspace_apps (
    id uuid PRIMARY KEY,
    agent_id uuid NOT NULL REFERENCES workspace_agents ON DELETE CASCADE,
    slug text NOT NULL,
    display_name text NOT NULL DEFAULT '',
    icon text NOT NULL DEFAULT '',
    command text NOT NULL DEFAULT '',
    url text NOT NULL DEFAULT '',
    external boolean NOT NULL DEFAULT false,
    subdomain boolean NOT NULL DEFAULT false,
    sharing_level sharing_level NOT NULL DEFAULT 'owner',
    healthcheck_url text NOT NULL DEFAULT '',
    healthcheck_interval integer NOT NULL DEFAULT 0,
    healthcheck_threshold integer NOT NULL DEFAULT 0,
    health app_health NOT NULL DEFAULT 'disabled',
    display_order integer NOT NULL DEFAULT 0,
    display_group text NOT NULL DEFAULT '',
    hidden boolean NOT NULL DEFAULT false,
    open_in text NOT NULL DEFAULT 'slim-window',
    tooltip text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL,
    UNIQUE (agent_id, slug)
);

CREATE TABLE workspace_app_statuses (
    id uuid PRIMARY KEY,
    app_id uuid NOT NULL REFERENCES workspace_apps ON DELETE CASCADE,
    agent_id uuid NOT NULL REFERENCES workspace_agents ON DELETE CASCADE,
    workspace_id uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    state text NOT NULL CHECK (state IN ('working', 'idle', 'complete', 'failure')),
    message text NOT NULL,
    uri text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL
);
CREATE INDEX workspace_app_statuses_app ON workspace_app_statuses (app_id, created_at);

CREATE TABLE workspace_agent_log_sources (
    agent_id uuid NOT NULL REFERENCES workspace_agents ON DELETE CASCADE,
    id uuid NOT NULL,
    display_name text NOT NULL,
    icon text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE workspace_agent_scripts (
    id uuid PRIMARY KEY,
    agent_id uuid NOT NULL REFERENCES workspace_agents ON DELETE CASCADE,
    log_source_id uuid NOT NULL,
    display_name text NOT NULL DEFAULT '',
    log_path text NOT NULL DEFAULT '',
    script text NOT NULL,
    cron text NOT NULL DEFAULT '',
    start_blocks_login boolean NOT NULL DEFAULT false,
    run_on_start boolean NOT NULL DEFAULT false,
    run_on_stop boolean NOT NULL DEFAULT false,
    timeout_seconds integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL
);
CREATE INDEX workspace_agent_scripts_agent ON workspace_agent_scripts (agent_id);

CREATE TABLE workspace_agent_script_timings (
    script_id uuid NOT NULL REFERENCES workspace_agent_scripts ON DELETE CASCADE,
    stage text NOT NULL CHECK (stage IN ('start', 'stop', 'cron')),
    status text NOT NULL CHECK (status IN ('ok', 'exit_failure', 'timed_out', 'pipes_left_open')),
    exit_code integer NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL
);
CREATE INDEX workspace_agent_script_timings_script ON workspace_agent_script_timings (script_id, started_at);

CREATE TABLE workspace_agent_logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent_id uuid NOT NULL REFERENCES workspace_agents ON DELETE CASCADE,
    log_source_id uuid NOT NULL,
    level log_level NOT NULL,
    output text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX workspace_agent_logs_agent ON workspace_agent_logs (agent_id, id);

CREATE TABLE workspace_agent_metadata (
    agent_id uuid NOT NULL REFERENCES workspace_agents ON DELETE CASCADE,
    key text NOT NULL,
    display_name text NOT NULL,
    script text NOT NULL,
    interval_seconds bigint NOT NULL,
    timeout_seconds bigint NOT NULL,
    display_order integer NOT NULL DEFAULT 0,
    value text NOT NULL DEFAULT '',
    error text NOT NULL DEFAULT '',
    collected_at timestamptz,
    PRIMARY KEY (agent_id, key)
);

CREATE TABLE workspace_agent_stats (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent_id uuid NOT NULL,
    user_id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    template_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    connections_by_proto jsonb NOT NULL DEFAULT '{}',
    connection_count bigint NOT NULL DEFAULT 0,
    connection_median_latency_ms double precision NOT NULL DEFAULT -1,
    rx_packets bigint NOT NULL DEFAULT 0,
    rx_bytes bigint NOT NULL DEFAULT 0,
    tx_packets bigint NOT NULL DEFAULT 0,
    tx_bytes bigint NOT NULL DEFAULT 0,
    sessions jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX workspace_agent_stats_created ON workspace_agent_stats (created_at);

CREATE TABLE connection_logs (
    id uuid PRIMARY KEY,
    connection_id uuid,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
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
    connected_at timestamptz NOT NULL,
    disconnected_at timestamptz
);
CREATE UNIQUE INDEX connection_logs_connection ON connection_logs (connection_id, workspace_id, agent_name)
    WHERE connection_id IS NOT NULL;
