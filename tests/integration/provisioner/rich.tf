terraform {
  required_providers { coder = { source = "coder/coder" } }
}
variable "greeting" {
  type        = string
  default     = "hello"
  description = "Said at start."
}
variable "secret" {
  type      = string
  default   = "s3cret"
  sensitive = true
}
data "coder_workspace" "me" {}
data "coder_workspace_owner" "me" {}
data "coder_provisioner" "me" {}
data "coder_parameter" "cpu" {
  name         = "cpu"
  display_name = "CPU cores"
  description  = "How many cores"
  type         = "number"
  default      = 2
  mutable      = true
  icon         = "/icon/memory.svg"
  order        = 1
  validation {
    min       = 1
    max       = 8
    monotonic = "increasing"
  }
}
data "coder_parameter" "region" {
  name    = "region"
  type    = "string"
  default = "eu"
  mutable = false
  order   = 2
  option {
    name  = "Europe"
    value = "eu"
    icon  = "/emojis/1f1ea-1f1fa.png"
  }
  option {
    name        = "America"
    value       = "us"
    description = "US east"
  }
}
data "coder_parameter" "debug" {
  name      = "debug"
  type      = "bool"
  default   = false
  mutable   = true
  ephemeral = true
  order     = 3
}
data "coder_parameter" "tags" {
  name    = "tags"
  type    = "list(string)"
  default = jsonencode(["a", "b"])
  mutable = true
  order   = 4
}
data "coder_parameter" "name" {
  name    = "name"
  type    = "string"
  default = "abc"
  mutable = true
  order   = 5
  validation {
    regex = "^[a-z]+$"
    error = "only lower-case letters"
  }
}
data "coder_workspace_preset" "small" {
  name        = "Small"
  default     = true
  description = "Two cores"
  parameters  = { cpu = "2", region = "eu" }
}
data "coder_workspace_tags" "t" {
  tags = {}
}
resource "coder_agent" "main" {
  os                      = "linux"
  arch                    = "amd64"
  dir                     = "/tmp"
  connection_timeout      = 60
  motd_file               = ""
  troubleshooting_url     = "https://example.com/help"
  startup_script_behavior = "blocking"
  env                     = { FROM_TEMPLATE = "1" }
  order                   = 1
  display_apps {
    vscode          = true
    vscode_insiders = false
    web_terminal    = true
    ssh_helper      = true
    port_forwarding_helper = true
  }
  metadata {
    key          = "load"
    display_name = "Load"
    script       = "cut -d' ' -f1 /proc/loadavg"
    interval     = 2
    timeout      = 1
    order        = 1
  }
  metadata {
    key      = "fails"
    script   = "echo broken >&2; exit 3"
    interval = 2
    timeout  = 1
  }
  resources_monitoring {
    memory {
      enabled   = true
      threshold = 90
    }
  }
}
resource "coder_script" "hello" {
  agent_id           = coder_agent.main.id
  display_name       = "Hello"
  icon               = "/icon/terminal.svg"
  script             = "echo ${var.greeting}; echo second line; echo oops >&2"
  run_on_start       = true
  start_blocks_login = true
}
resource "coder_script" "bye" {
  agent_id     = coder_agent.main.id
  display_name = "Bye"
  script       = "echo bye"
  run_on_stop  = true
}
resource "coder_env" "e" {
  agent_id = coder_agent.main.id
  name     = "EXTRA"
  value    = "yes"
}
resource "coder_app" "web" {
  agent_id     = coder_agent.main.id
  slug         = "web"
  display_name = "Web"
  icon         = "/icon/code.svg"
  url          = "http://localhost:13337/"
  share        = "authenticated"
  subdomain    = false
  order        = 1
  group        = "Tools"
  healthcheck {
    url       = "http://localhost:13337/healthz"
    interval  = 3
    threshold = 2
  }
}
resource "coder_app" "docs" {
  agent_id = coder_agent.main.id
  slug     = "docs"
  url      = "https://example.com/docs"
  external = true
}
resource "coder_app" "cmd" {
  agent_id = coder_agent.main.id
  slug     = "top"
  command  = "top"
}
resource "terraform_data" "ws" {
  count = data.coder_workspace.me.start_count
  input = { token = coder_agent.main.token, url = data.coder_workspace.me.access_url, id = data.coder_workspace.me.id }
  provisioner "local-exec" {
    command     = "true"
    environment = { CODER_AGENT_TOKEN = self.input.token, CODER_AGENT_URL = self.input.url, ID = self.input.id }
  }
  provisioner "local-exec" {
    when        = destroy
    command     = "true"
    environment = { ID = self.input.id }
  }
}
resource "terraform_data" "disk" {
  input = "kept"
}
resource "coder_metadata" "disk" {
  resource_id = terraform_data.disk.id
  icon        = "/icon/database.svg"
  daily_cost  = 3
  item {
    key   = "size"
    value = "10 GiB"
  }
  item {
    key       = "password"
    value     = "hidden"
    sensitive = true
  }
}
