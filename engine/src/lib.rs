//! Warren's packet engine.
//!
//! Three rings: `wire`, `tunnel`, `netstack` and `path` are pure (no sockets, threads or clock; `now` is passed in),
//! `driver`, `relay` and `impair` own sockets and threads, `python` is the only part that names PyO3.

mod driver;
#[cfg(target_os = "linux")]
mod impair;
mod netstack;
pub mod path;
mod python;
pub mod relay;
mod tunnel;
pub mod wire;
