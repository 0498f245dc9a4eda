//! Warren's packet engine.
