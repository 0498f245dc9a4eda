"""Pure decisions about Warren's own things: workspaces, builds, templates, agents."""
