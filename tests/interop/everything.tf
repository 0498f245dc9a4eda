# Uses every data source and resource of the provider, and most of their attributes.
terraform {
  required_providers { coder = { source = "coder/coder", version = ">= 2.0" } }
}

provider "coder" {
  url = "https://dev.example:8443/base"
}

data "coder_workspace" "me" {}
data "coder_workspace_owner" "me" {}
data "coder_provisioner" "me" {}
data "coder_task" "me" {}
data "coder_external_auth" "git" {
  id       = "git"
  optional = true
}
data "coder_workspace_tags" "t" {
  tags = { zone = "a" }
}
data "coder_parameter" "size" {
  name    = "size"
  type    = "number"
  default = 1
  mutable = true
  form_type = "slider"
  styling = jsonencode({ label = "x" })
  validation {
    min   = 1
    error = "at least {min}"
  }
}
data "coder_parameter" "tools" {
  name      = "tools"
  type      = "list(string)"
  form_type = "multi-select"
  default   = jsonencode(["a"])
  option {
    name  = "A"
    value = "a"
  }
  option {
    name  = "B"
    value = "b"
  }
}
data "coder_parameter" "required" {
  name = "required"
}
data "coder_parameter" "on" {
  name    = "on"
  type    = "bool"
  default = true
}
data "coder_workspace_preset" "big" {
  name       = "Big"
  icon       = "/icon/x.svg"
  parameters = { size = data.coder_parameter.size.value }
  prebuilds {
    instances = 2
    expiration_policy {
      ttl = 86400
    }
    scheduling {
      timezone = "UTC"
      schedule {
        cron      = "* 8-18 * * 1-5"
        instances = 5
      }
    }
  }
}

resource "coder_agent" "main" {
  os                 = "linux"
  arch               = "arm64"
  startup_script     = "echo start"
  shutdown_script    = "echo stop"
  api_key_scope      = "no_user_data"
  resources_monitoring {
    memory {
      enabled   = true
      threshold = 80
    }
    volume {
      path      = "/home"
      enabled   = false
      threshold = 90
    }
    volume {
      path      = "/data"
      enabled   = true
      threshold = 50
    }
  }
  display_apps {
    vscode = false
  }
  metadata {
    key      = "k"
    script   = "true"
    interval = 1
  }
}
resource "coder_agent" "cloud" {
  os   = "windows"
  arch = "amd64"
  auth = "aws-instance-identity"
}
resource "coder_agent_instance" "cloud" {
  agent_id    = coder_agent.cloud.id
  instance_id = "i-1"
}
resource "coder_app" "web" {
  agent_id     = coder_agent.main.id
  slug         = "web"
  url          = "http://localhost:1"
  subdomain    = true
  share        = "public"
  open_in      = "tab"
  tooltip      = "*t*"
  healthcheck {
    url       = "http://localhost:1/h"
    interval  = 5
    threshold = 6
  }
}
resource "coder_app" "hidden" {
  agent_id = coder_agent.main.id
  slug     = "hidden"
  url      = "https://example.com"
  external = true
  hidden   = true
}
resource "coder_script" "cron" {
  agent_id     = coder_agent.main.id
  display_name = "Cron"
  script       = "true"
  cron         = "0 0 7 * * 1-5"
  timeout      = 30
  log_path     = "cron.log"
}
resource "coder_env" "path" {
  agent_id       = coder_agent.main.id
  name           = "PATH"
  value          = "/opt/bin"
  merge_strategy = "prepend"
}
resource "coder_env" "empty" {
  agent_id = coder_agent.main.id
  name     = "EMPTY"
}
resource "coder_devcontainer" "dc" {
  agent_id         = coder_agent.main.id
  workspace_folder = "/work"
}
resource "coder_script" "in_dc" {
  agent_id     = coder_devcontainer.dc.subagent_id
  display_name = "In the container"
  script       = "true"
  run_on_start = true
}
resource "coder_agent" "away" {
  os   = "darwin"
  arch = "arm64"
}
resource "coder_external_agent" "away" {
  agent_id = coder_agent.away.id
}
resource "coder_ai_task" "task" {
  app_id = coder_app.web.id
}
resource "terraform_data" "host" {
  count = data.coder_workspace.me.start_count
  input = [coder_agent.main.id, coder_agent.cloud.id]
}
resource "terraform_data" "disk" {
  for_each = toset(["a", "b"])
  input    = each.key
}
resource "coder_metadata" "disk" {
  resource_id = terraform_data.disk["a"].id
  hide        = true
  item {
    key   = "size"
    value = "1"
  }
  item {
    key = "nothing"
  }
}
resource "terraform_data" "shown" {
  input = {
    workspace   = data.coder_workspace.me
    owner       = data.coder_workspace_owner.me.name
    groups      = data.coder_workspace_owner.me.groups
    roles       = data.coder_workspace_owner.me.rbac_roles
    login       = data.coder_workspace_owner.me.login_type
    token       = data.coder_external_auth.git.access_token
    task        = data.coder_task.me.enabled
    provisioner = "${data.coder_provisioner.me.os}/${data.coder_provisioner.me.arch}"
    required    = data.coder_parameter.required.value
    script      = coder_agent.main.init_script
  }
}
