# A workspace is a process on the machine that runs the provisioner: no container, no cloud, nothing to download.

terraform {
  required_providers {
    coder = {
      source = "coder/coder"
    }
  }
}

variable "data_dir" {
  type        = string
  default     = ""
  description = "Where home folders are kept; empty: ~/.local/share/warren/workspaces of the user who runs the provisioner."
}

data "coder_provisioner" "me" {}
data "coder_workspace" "me" {}
data "coder_workspace_owner" "me" {}

locals {
  root = var.data_dir != "" ? var.data_dir : pathexpand("~/.local/share/warren/workspaces")
  dir  = "${local.root}/${data.coder_workspace.me.id}"
  home = "${local.dir}/home"
}

resource "coder_agent" "main" {
  os   = data.coder_provisioner.me.os
  arch = data.coder_provisioner.me.arch

  env = {
    GIT_AUTHOR_NAME     = coalesce(data.coder_workspace_owner.me.full_name, data.coder_workspace_owner.me.name)
    GIT_AUTHOR_EMAIL    = data.coder_workspace_owner.me.email
    GIT_COMMITTER_NAME  = coalesce(data.coder_workspace_owner.me.full_name, data.coder_workspace_owner.me.name)
    GIT_COMMITTER_EMAIL = data.coder_workspace_owner.me.email
  }

  metadata {
    key          = "cpu"
    display_name = "CPU load"
    script       = "cut -d' ' -f1 /proc/loadavg"
    interval     = 10
    timeout      = 1
  }

  metadata {
    key          = "home"
    display_name = "Home folder"
    script       = "du -sh ~ | cut -f1"
    interval     = 60
    timeout      = 10
  }
}

# The folder lives as long as the workspace: a stop keeps it, a delete removes it.
resource "terraform_data" "home" {
  input = {
    dir  = local.dir
    home = local.home
  }

  provisioner "local-exec" {
    command     = <<-EOT
      umask 077
      [ -d "$HOME_DIR" ] && exit 0
      mkdir -p "$HOME_DIR"
      [ ! -d /etc/skel ] || cp -R /etc/skel/. "$HOME_DIR"
    EOT
    environment = { HOME_DIR = self.input.home }
  }

  provisioner "local-exec" {
    when        = destroy
    command     = "rm -rf \"$WORKSPACE_DIR\""
    environment = { WORKSPACE_DIR = self.output.dir }
  }
}

# The agent lives from start to stop. Its token changes with every start, so every start replaces it.
resource "terraform_data" "agent" {
  count            = data.coder_workspace.me.start_count
  triggers_replace = [coder_agent.main.token]
  input            = terraform_data.home.output

  # In a session of its own, so that it outlives Terraform and the server. Of the environment only what a login would
  # have: the rest has secrets of the owner. All output goes to a file, or Terraform would wait for the end of it.
  provisioner "local-exec" {
    command = <<-EOT
      umask 077
      mkdir -p "$HOME_DIR" && cd "$HOME_DIR" || exit 1
      printf '%s' "$AGENT_TOKEN" >"$WORKSPACE_DIR/agent.token"
      printf '%s' "$AGENT_SCRIPT" >"$WORKSPACE_DIR/agent.sh"
      user=$(id -un 2>/dev/null || id -u)
      set -- PATH="$PATH" HOME="$HOME_DIR" USER="$user" LOGNAME="$user" BINARY_DIR="$WORKSPACE_DIR" \
        CODER_AGENT_LOG_DIR="$WORKSPACE_DIR" CODER_AGENT_SCRIPT_DATA_DIR="$WORKSPACE_DIR" \
        CODER_AGENT_PROMETHEUS_ADDRESS=127.0.0.1:0 CODER_AGENT_DEBUG_ADDRESS=127.0.0.1:0
      for name in SHELL LANG LC_ALL TZ SSL_CERT_FILE SSL_CERT_DIR http_proxy https_proxy all_proxy no_proxy \
        HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY; do
        eval "value=\$$name"
        [ -z "$value" ] || set -- "$@" "$name=$value"
      done
      nohup setsid env -i "$@" sh -c '
        CODER_AGENT_TOKEN=$(cat "$BINARY_DIR/agent.token")
        export CODER_AGENT_TOKEN
        exec sh "$BINARY_DIR/agent.sh"
      ' >"$WORKSPACE_DIR/agent.log" 2>&1 </dev/null &
      echo $! >"$WORKSPACE_DIR/agent.pid"
    EOT
    environment = {
      AGENT_TOKEN   = coder_agent.main.token
      AGENT_SCRIPT  = coder_agent.main.init_script
      WORKSPACE_DIR = self.input.dir
      HOME_DIR      = self.input.home
    }
  }

  # Ask the agent to end, which runs its stop scripts; then end whatever still has this workspace's environment.
  provisioner "local-exec" {
    when        = destroy
    command     = <<-EOT
      read -r pid <"$WORKSPACE_DIR/agent.pid" || exit 0
      mine="BINARY_DIR=$WORKSPACE_DIR"
      if [ -d /proc/self ]; then
        # A process that only waits to be reaped has no environment, and one that got the number later has another.
        runs() { grep -qszxF "$mine" "/proc/$pid/environ"; }
        left() { grep -lszxF "$mine" /proc/[0-9]*/environ | cut -d/ -f3; }
      else
        runs() { kill -0 "$pid" 2>/dev/null; }
        left() { pgrep -g "$pid"; }
      fi
      if runs; then
        kill -TERM "$pid"
        tries=600
        while [ "$tries" -gt 0 ] && runs; do
          sleep 0.05
          tries=$((tries - 1))
        done
      fi
      if [ -n "$(left)" ]; then
        kill -TERM $(left) 2>/dev/null
        sleep 0.3
        kill -KILL $(left) 2>/dev/null
      fi
      rm -f "$WORKSPACE_DIR/agent.pid"
    EOT
    environment = { WORKSPACE_DIR = self.output.dir }
  }
}
